import { randomUUID } from 'node:crypto';
import { redisSource, startRedis } from './redis-server.js';

type Parts = { readonly settings: NodeJS.ProcessEnv; stop(): Promise<void> };
type Combination = { readonly name: string; start(): Promise<Parts> };

const sqlite: Parts = { settings: {}, stop: async () => undefined };

async function withRedis({ settings }: Parts): Promise<Parts> {
  const server = await startRedis();
  const redis = { READ_MODEL_URL: server.url, REDIS_PREFIX: `test-${randomUUID()}` };
  return { settings: { ...settings, ...redis }, stop: () => server.stop() };
}

/** Every combination of log and read model that can be run here: the end-to-end suite runs on each. */
export const combinations: readonly Combination[] = [
  { name: 'SQLite and memory', start: async () => sqlite },
  ...(redisSource ? [{ name: 'SQLite and Redis', start: () => withRedis(sqlite) }] : []),
];
