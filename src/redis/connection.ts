import { once } from 'node:events';
import { Cluster, Redis } from 'ioredis';
import type { BaseLogger } from 'pino';
import { backOffMs } from '../back-off.js';

const COMMAND_TIMEOUT_MS = 2000;
const MIN_RECONNECT_DELAY_MS = 50;
const MAX_RECONNECT_DELAY_MS = 2000;
const NO_SUCH_DATABASE = /DB index is out of range|invalid DB index/;

/** A connection to one server, to a master behind Sentinels, or to a cluster. */
export type Connection = Redis | Cluster;
type Scripts = Readonly<Record<string, { readonly lua: string; readonly numberOfKeys?: number }>>;

const SHAPE = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^/@?#]+)(?:\/([^?#]*))?$/;

export function isRedisUrl(url: string): boolean {
  const [matched, , kind, , , , path] = SHAPE.exec(url) ?? [];
  return matched !== undefined && (kind !== 'sentinel' || path !== undefined);
}

/**
 * `redis://[user:password@]host:port[/db]`, `redis+sentinel://[user:password@]host:port,host:port/<master>[/db]` or
 * `redis+cluster://[user:password@]host:port,host:port`; with `rediss` for TLS. Connects and reconnects by itself;
 * without a connection every command fails at once.
 */
export function connectRedis(url: string, scripts: Scripts = {}): Connection {
  const connection = createConnection(url, scripts);
  // ioredis prints errors without a listener; here it is enough that commands fail.
  connection.on('error', ({ message }: Error) => {
    // ioredis would continue in database 0, which belongs to others.
    if (NO_SUCH_DATABASE.test(message)) setImmediate(() => connection.disconnect());
  });
  return connection;
}

/** Waits until a new connection is ready. @throws Error it is not ready in time, or the server refuses it */
export async function waitUntilReady(connection: Connection, limitMs = COMMAND_TIMEOUT_MS): Promise<void> {
  if (connection.status === 'ready') return;
  await once(connection, 'ready', { signal: AbortSignal.timeout(limitMs) });
}

function createConnection(url: string, scripts: Scripts): Connection {
  const [, tls, kind, user = '', password = '', hostList = '', path = ''] = SHAPE.exec(url) ?? [];
  const hosts = hostList.split(',').map(parseHost);
  const [first = '', second = ''] = path.split('/');
  const options = {
    ...(user ? { username: decodeURIComponent(user) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
    ...(tls ? { tls: {} } : {}),
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    connectTimeout: COMMAND_TIMEOUT_MS,
  };
  const common = { scripts, enableOfflineQueue: false };
  if (kind === 'cluster') {
    return new Cluster(hosts, { ...common, redisOptions: options, clusterRetryStrategy: reconnectDelay });
  }
  const single = { ...options, ...common, retryStrategy: reconnectDelay };
  if (kind === 'sentinel') {
    const sentinelTls = tls ? { sentinelTLS: {}, enableTLSForSentinelMode: true } : {};
    return new Redis({ ...single, ...sentinelTls, sentinels: hosts, name: first, db: Number(second) });
  }
  return new Redis({ ...single, ...parseHost(hostList), db: Number(first) });
}

function parseHost(text: string): { host: string; port: number } {
  const [, name = '', port = '6379'] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(text) ?? [];
  return { host: name, port: Number(port) };
}

const reconnectDelay = (attempt: number): number => backOffMs(attempt, MIN_RECONNECT_DELAY_MS, MAX_RECONNECT_DELAY_MS);

/** Warns if Redis may evict keys, so that the read model loses data, or keeps nothing on disk. */
export async function warnAboutDurability(connection: Connection, logger: BaseLogger): Promise<void> {
  const nodes = connection instanceof Cluster ? connection.nodes('master') : [connection];
  for (const node of nodes) {
    try {
      const memory = await node.info('memory');
      const policy = /maxmemory_policy:(\S+)/.exec(memory)?.[1];
      if (policy && policy !== 'noeviction') {
        logger.warn(`Redis may evict keys (maxmemory-policy ${policy}): set it to noeviction`);
      }
      const aof = /aof_enabled:1/.test(await node.info('persistence'));
      const [, save] = aof ? [] : ((await node.config('GET', 'save')) as string[]);
      if (!aof && save === '') {
        logger.warn(
          'Redis keeps nothing on disk (save "", appendonly no): after its restart lists are unavailable until they are restored',
        );
      }
    } catch (error) {
      logger.debug({ err: error }, 'The configuration of Redis cannot be read');
    }
  }
}
