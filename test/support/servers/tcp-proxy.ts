import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';

/** A proxy between a client and a server, for taking the network away and giving it back. */
export class TcpProxy {
  readonly #server = createServer((socket) => this.#forward(socket));
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  /** What is on its way to a socket. */
  readonly #underWay = new WeakMap<Socket, Promise<void>>();
  #port = 0;
  #frozen = false;
  #delayMs = 0;

  constructor(target: { host: string; port: number }) {
    this.#target = target;
  }

  async start(): Promise<number> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
    return this.#port;
  }

  /** Resets every connection; new ones are taken. */
  async cut(): Promise<void> {
    // Whether a socket ends well or not, it is closed then.
    const closed = [...this.#sockets].map((socket) => new Promise((end) => socket.once('close', end)));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await Promise.all(closed);
  }

  /** Resets every connection, and refuses new ones until it is started again. */
  async stop(): Promise<void> {
    this.#server.close();
    await this.cut();
  }

  /** What comes from now on is passed on so much later, and never before what came before it. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Passes nothing on any more, as a machine does that has stopped: nobody is told. */
  freeze(): void {
    this.#frozen = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** Passes on what has come meanwhile, and what comes. */
  thaw(): void {
    this.#frozen = false;
    for (const socket of this.#sockets) socket.resume();
  }

  #forward(client: Socket): void {
    const server = connect(this.#target);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (data) => this.#pass(data, to));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      if (this.#frozen) from.pause();
    }
  }

  async #pass(data: Buffer, to: Socket): Promise<void> {
    const before = this.#underWay.get(to);
    if (this.#delayMs === 0 && !before) {
      to.write(data);
      return;
    }
    const passed = Promise.all([setTimeout(this.#delayMs), before]).then(() => void to.write(data));
    this.#underWay.set(to, passed);
    await passed;
    if (this.#underWay.get(to) === passed) this.#underWay.delete(to);
  }
}
