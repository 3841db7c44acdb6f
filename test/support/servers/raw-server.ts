import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

export type RawServer = {
  readonly port: number;
  /** How many connections there have been. */
  readonly connections: number;
  /** How many there are. */
  readonly open: number;
  stop(): Promise<void>;
};

/** A server that does with each connection what a test says. */
export async function startRawServer(
  onConnection: (socket: Socket) => void,
  host = '127.0.0.1',
  port = 0,
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  server.listen(port, host);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections;
    },
    get open() {
      return sockets.size;
    },
    stop: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
