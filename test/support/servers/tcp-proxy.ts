import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';

/** Proxy between a client and a server that can cut, delay and freeze the network. */
export class TcpProxy {
  readonly #server = createServer((socket) => this.#forward(socket));
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  /** Writes in flight to a socket. */
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

  /** Resets every connection; accepts new ones. */
  async cut(): Promise<void> {
    // A socket emits `close` whether it ends with or without an error.
    const closed = [...this.#sockets].map((socket) => new Promise((end) => socket.once('close', end)));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await Promise.all(closed);
  }

  /** Resets every connection, and refuses new ones until the next start. */
  async stop(): Promise<void> {
    this.#server.close();
    await this.cut();
  }

  /** Delays what arrives from now on by `ms` milliseconds, and keeps the order. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Forwards nothing, and closes nothing, like a machine that has stopped. */
  freeze(): void {
    this.#frozen = true;
    for (const socket of this.#sockets) socket.pause();
  }

  /** Forwards what arrived while frozen, and what arrives from now on. */
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
