import { randomUUID } from 'node:crypto';
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

/** Every combination of log and read model that can be run here: the end-to-end suite runs on each. */
export const combinations: readonly Combination[] = [
  { name: 'SQLite and memory', start: onSqlite },
  ...(redisSource ? [{ name: 'SQLite and Redis', start: () => withRedis(onSqlite()) }] : []),
  ...(eventStoreDbSource ? [{ name: 'EventStoreDB and memory', start: onEventStoreDb }] : []),
  ...(eventStoreDbSource && redisSource
    ? [{ name: 'EventStoreDB and Redis', start: () => withRedis(onEventStoreDb()) }]
    : []),
];
