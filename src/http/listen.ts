import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { ConfigError, type Settings } from '../settings.js';

/** Connections that may wait to be accepted, as many as the system allows: with fewer, a burst waits for seconds. */
const BACKLOG = 4096;
/** Both addresses of localhost: RFC 6761, section 6.3. */
const LOOPBACK = ['127.0.0.1', '::1'] as const;
/** Errors of a system without IPv6, or without IPv4. */
const NO_SUCH_FAMILY = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'];
/** Requests under way get this time to finish when a server stops. */
const GRACE_MS = 8000;

export type Listening = {
  readonly url: string;
  /** Accepts no new connection, answers requests under way, and cuts off those that outlast `graceMs`. */
  close(graceMs?: number): Promise<void>;
};

/**
 * Listens on HOST and a port. `localhost` is 127.0.0.1 and ::1: the server of the first also handles the connections of
 * the second, so that both behave alike.
 * @param setting the setting of the port, of which 0 is any free one
 * @throws ConfigError naming the setting that it cannot listen with
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
