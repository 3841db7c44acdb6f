import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

declare module 'fastify' {
  interface FastifyInstance {
    connections: Connections;
  }
}

/** The open connections of a server, and which answers are still to come on them. */
export class Connections {
  /** Several of one connection: a client may send its next request before it has the answer to the last. */
  readonly #pending = new Map<Socket, Set<ServerResponse>>();

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.#pending.set(socket, new Set());
      socket.once('close', () => this.#pending.delete(socket));
    });
    server.on('request', ({ socket }, response) => {
      const pending = this.#pending.get(socket);
      pending?.add(response);
      response.once('close', () => pending?.delete(response));
    });
  }

  /** Is there a request that has arrived as a whole, or whose answer has begun? */
  isAnswering(socket: Socket): boolean {
    const pending = [...(this.#pending.get(socket) ?? [])];
    return pending.some(({ req, headersSent }) => req.complete || headersSent);
  }

  /** Closes those on which nobody waits for an answer. */
  closeIdle(): void {
    for (const [socket, pending] of this.#pending) if (pending.size === 0) socket.destroy();
  }
}
