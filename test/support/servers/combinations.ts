import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { eventStoreDbSource, startEventStoreDb } from './eventstoredb-server.js';
import { redisSource, startRedis } from './redis-server.js';

type Parts = { readonly settings: NodeJS.ProcessEnv; stop(): Promise<void> };
type Combination = { readonly name: string; start(): Promise<Parts> };

async function onSqlite(): Promise<Parts> {
  return { settings: {}, stop: async () => undefined };
}

async function onEventStoreDb(): Promise<Parts> {
  const server = await startEventStoreDb();
  return { settings: { EVENT_STORE_URL: server.url }, stop: () => server.stop() };
}

async function withRedis(log: Promise<Parts>): Promise<Parts> {
  const { settings, stop } = await log;
  const server = await startRedis();
  const redis = { READ_MODEL_URL: server.url, REDIS_PREFIX: `test-${randomUUID()}` };
  return {
    settings: { ...settings, ...redis },
    stop: async () => {
      await server.stop();
      await stop();
    },
  };
}

/** Whoever listens here has the configured EventStoreDB to itself; the suites may be in several processes. */
const ALONE_PORT = 47_113;

async function alone(): Promise<Server> {
  for (;;) {
    const lock = createServer().listen(ALONE_PORT, '127.0.0.1');
    try {
      await once(lock, 'listening');
      return lock;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
    await setTimeout(100);
  }
}

/** Every combination of log and read model that can be run here: the end-to-end suite runs on each. */
export const combinations: readonly Combination[] = [
  { name: 'SQLite and memory', start: onSqlite },
  ...(redisSource ? [{ name: 'SQLite and Redis', start: () => withRedis(onSqlite()) }] : []),
  ...(eventStoreDbSource ? [{ name: 'EventStoreDB and memory', start: onEventStoreDb }] : []),
  ...(eventStoreDbSource && redisSource
    ? [{ name: 'EventStoreDB and Redis', start: () => withRedis(onEventStoreDb()) }]
    : []),
];

/**
 * The same for suites whose services act on all that a log holds, as by calling its webhooks: where suites share
 * a log, one test at a time.
 */
export const combinationsAlone: readonly Combination[] = combinations.map(({ name, start }) => ({
  name,
  start: async () => {
    const isShared = name.startsWith('EventStoreDB') && eventStoreDbSource === 'EVENTSTORE_TEST_URL';
    const lock = isShared ? await alone() : undefined;
    const { settings, stop } = await start();
    return {
      settings,
      stop: async () => {
        await stop();
        lock?.close();
      },
    };
  },
}));
