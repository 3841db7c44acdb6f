import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

declare module 'fastify' {
  interface FastifyInstance {
    connections: Connections;
  }
}

/** The open connections of a server, and the pending answers on each. */
export class Connections {
  /** Several per connection, because a client may send its next request before it has the last answer. */
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

  /** Has a request on the connection arrived completely, or its answer begun? */
  isAnswering(socket: Socket): boolean {
    const pending = [...(this.#pending.get(socket) ?? [])];
    return pending.some(({ req, headersSent }) => req.complete || headersSent);
  }

  /** Closes the connections without a pending answer. */
  closeIdle(): void {
    for (const [socket, pending] of this.#pending) if (pending.size === 0) socket.destroy();
  }
}
