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

/** Port that serves as a lock on the configured EventStoreDB across processes: its listener has the log to itself. */
const LOCK_PORT = 47_113;

async function acquireLogLock(): Promise<Server> {
  for (;;) {
    const lock = createServer().listen(LOCK_PORT, '127.0.0.1');
    try {
      await once(lock, 'listening');
      return lock;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
    await setTimeout(100);
  }
}

/** Combinations of log and read model that this machine can run; the end-to-end suite runs on each. */
export const combinations: readonly Combination[] = [
  { name: 'SQLite and memory', start: onSqlite },
  ...(redisSource ? [{ name: 'SQLite and Redis', start: () => withRedis(onSqlite()) }] : []),
  ...(eventStoreDbSource ? [{ name: 'EventStoreDB and memory', start: onEventStoreDb }] : []),
  ...(eventStoreDbSource && redisSource
    ? [{ name: 'EventStoreDB and Redis', start: () => withRedis(onEventStoreDb()) }]
    : []),
];

/**
 * The same combinations, one test at a time where suites share a log: for suites whose services act on all that a log
 * holds, such as calling its webhooks.
 */
export const exclusiveCombinations: readonly Combination[] = combinations.map(({ name, start }) => ({
  name,
  start: async () => {
    const isShared = name.startsWith('EventStoreDB') && eventStoreDbSource === 'EVENTSTORE_TEST_URL';
    const lock = isShared ? await acquireLogLock() : undefined;
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
