import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { ConfigError, type Settings } from '../settings.js';

/** Connections that may wait to be accepted; the system allows no more. With fewer, a burst of them waits for seconds. */
const BACKLOG = 4096;
/** Both addresses of localhost: RFC 6761, section 6.3. */
const LOOPBACK = ['127.0.0.1', '::1'] as const;
/** What the system says where it has no IPv6, or no IPv4. */
const NO_SUCH_FAMILY = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'];

/** Requests under way get this time to finish when a server stops (milliseconds). */
const GRACE_MS = 8000;

/** A server that listens. */
export type Listening = {
  readonly url: string;
  /** Takes no new connection, answers what is under way, and cuts off what does not end in time (milliseconds). */
  close(graceMs?: number): Promise<void>;
};

/**
 * Listens on HOST and a port. `localhost` is 127.0.0.1 and ::1: connections of the second are handed to the server
 * of the first, so that what holds for one listener holds for both.
 * @param setting the one that says which port; 0 takes a free one
 * @throws ConfigError which setting keeps it from listening
 */
export async function listen(
  app: FastifyInstance,
  { HOST: host, ...config }: Pick<Settings, 'HOST' | 'PORT' | 'METRICS_PORT'>,
  setting: 'PORT' | 'METRICS_PORT',
): Promise<Listening> {
  const port = config[setting] ?? 0;
  try {
    const [first, second] = host === 'localhost' ? LOOPBACK : [host];
    await app.listen({ host: first, port, backlog: BACKLOG, listenTextResolver: () => 'listening' });
    const url = urlOf(app.server);
    const further = second && (await listenFurther(app, second, Number(new URL(url).port)));
    return { url, close: (graceMs = GRACE_MS) => close(app, further, graceMs) };
  } catch (error) {
    await app.close();
    const { code = '', message } = error as NodeJS.ErrnoException;
    const wrong = ['EADDRINUSE', 'EACCES'].includes(code) ? `${setting}=${port}` : `HOST=${host}`;
    throw new ConfigError(`Cannot listen with ${wrong}: ${message}`);
  }
}

async function close(app: FastifyInstance, further: Server | undefined, graceMs: number): Promise<void> {
  app.connections.closeIdle();
  const deadline = setTimeout(() => app.server.closeAllConnections(), graceMs);
  await Promise.all([app.close(), further && closed(further)]);
  clearTimeout(deadline);
}

/** https://nodejs.org/docs/latest-v20.x/api/http.html#event-connection: connections may be injected. */
async function listenFurther(app: FastifyInstance, host: string, port: number): Promise<Server | undefined> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
    app.server.emit('connection', socket),
  );
  try {
    await once(server.listen({ host, port, backlog: BACKLOG }), 'listening');
    return server;
  } catch (error) {
    if (NO_SUCH_FAMILY.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

const closed = (server: Server) => new Promise<void>((resolve) => server.close(() => resolve()));

function urlOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo;
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
}
