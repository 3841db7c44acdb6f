import { randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { loadConfig } from '../src/config.js';
import type { Role } from '../src/domain/authorization.js';
import type { EventStore } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import { makeMasterKey } from '../src/security/keyring.js';
import { freePort } from '../test/support/servers/redis-server.js';
import { tokenFor } from '../test/support/servers/service.js';
import { TcpProxy } from '../test/support/servers/tcp-proxy.js';
import { type Death, Instance } from './instance.js';
import { eventStoreDbLog, sqliteLog, type TorturedLog } from './logs.js';
import { redis, type TorturedRedis } from './redis.js';

export type SetUp = {
  readonly log: 'sqlite' | 'eventstoredb';
  readonly readModel: 'memory' | 'redis';
  /** Command that starts an EventStoreDB. */
  readonly command: string | undefined;
};

/** Network link to or from an instance, each with a proxy of its own. */
export type Link = 'clients' | 'log' | 'Redis';

type Two<T> = readonly [T, T];

/** Two instances, what they depend on, and the links between. */
export type World = {
  readonly folder: string;
  readonly settings: NodeJS.ProcessEnv;
  readonly log: TorturedLog;
  readonly redis: TorturedRedis | undefined;
  readonly instances: Two<Instance>;
  /** URLs at which clients reach the instances. */
  readonly urls: Two<string>;
  readonly links: { readonly [L in Link]?: Two<TcpProxy> };
  readonly deaths: readonly Death[];
  tokenOf(role: Role): Promise<string>;
};

/** Far beyond any change of the clocks. */
const TOKEN_SECONDS = 30 * 86_400;

/** Creates the world; the caller starts its instances. */
export async function makeWorld(folder: string, setUp: SetUp): Promise<World> {
  const log = setUp.log === 'sqlite' ? sqliteLog(folder) : await eventStoreDbLog(folder, setUp.command ?? '');
  const aRedis = setUp.readModel === 'redis' ? await redis(folder) : undefined;
  const settings = {
    DATA_DIR: folder,
    EVENT_STORE_URL: log.url,
    READ_MODEL_URL: aRedis ? urlOfRedis(aRedis.port) : 'memory:',
    MASTER_KEYS: makeMasterKey('torture'),
    JWT_SECRET: randomBytes(32).toString('base64url'),
    RATE_LIMIT: '0',
    LOG_LEVEL: 'info',
  };
  const servicePorts = [await freePort(), await freePort()] as const;
  const clients = await twoProxies(servicePorts);
  const toLog = log.port ? await twoProxies([log.port, log.port]) : undefined;
  const toRedis = aRedis ? await twoProxies([aRedis.port, aRedis.port]) : undefined;
  const deaths: Death[] = [];
  const instance = (number: 0 | 1) => {
    const own = {
      ...settings,
      ...(toLog ? { EVENT_STORE_URL: log.url.replace(/:\d+\?/, `:${toLog.ports[number]}?`) } : {}),
      ...(toRedis ? { READ_MODEL_URL: urlOfRedis(toRedis.ports[number]) } : {}),
    };
    return new Instance(folder, number, servicePorts[number], own, (death) => deaths.push(death));
  };
  return {
    folder,
    settings,
    log,
    redis: aRedis,
    instances: [instance(0), instance(1)],
    urls: [`http://127.0.0.1:${clients.ports[0]}`, `http://127.0.0.1:${clients.ports[1]}`],
    links: {
      clients: clients.proxies,
      ...(toLog ? { log: toLog.proxies } : {}),
      ...(toRedis ? { Redis: toRedis.proxies } : {}),
    },
    deaths,
    tokenOf: (role) => tokenFor(loadConfig(settings), { '*': role }, `torture-${role}`, TOKEN_SECONDS),
  };
}

const urlOfRedis = (port: number) => `redis://127.0.0.1:${port}`;

async function twoProxies([one, other]: Two<number>): Promise<{
  proxies: Two<TcpProxy>;
  ports: Two<number>;
}> {
  const proxyTo = (port: number) => new TcpProxy({ host: '127.0.0.1', port });
  const proxies = [proxyTo(one), proxyTo(other)] as const;
  return { proxies, ports: [await proxies[0].start(), await proxies[1].start()] };
}

/** @returns false if an instance is not ready in time */
export async function untilReady({ instances }: World, timeoutMs: number): Promise<boolean> {
  const giveUpAt = performance.now() + timeoutMs;
  for (const { url } of instances) {
    while (!(await isReady(url))) {
      if (performance.now() > giveUpAt) return false;
      await setTimeout(50);
    }
  }
  return true;
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2000) })).ok;
  } catch {
    return false;
  }
}

/** Opens the log directly, without a proxy. */
export async function withLogOf<T>({ log: { url } }: World, use: (log: EventStore) => Promise<T>): Promise<T> {
  const failed = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(url, { onFatal: failed, warn: () => undefined });
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

/** Ends all processes and proxies. */
export async function endWorld({ instances, redis, log, links }: World): Promise<void> {
  await Promise.all(instances.map((instance) => instance.kill()));
  await redis?.server.kill();
  await log.stop();
  for (const proxies of Object.values(links)) for (const proxy of proxies) await proxy.stop();
}
