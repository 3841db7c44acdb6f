import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A proxy between a client and a server, for taking the network away and giving it back. */
export class TcpProxy {
  readonly #server = createServer((socket) => this.#forward(socket));
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
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
    const closed = [...this.#sockets].map((socket) => once(socket, 'close'));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await Promise.all(closed);
  }

  /** Resets every connection, and refuses new ones until it is started again. */
  async stop(): Promise<void> {
    this.#server.close();
    await this.cut();
  }

  /** What comes from now on is passed on so much later. */
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
      from.on('data', (data) => {
        if (this.#delayMs === 0) to.write(data);
        else setTimeout(() => to.write(data), this.#delayMs);
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      if (this.#frozen) from.pause();
    }
  }
}
