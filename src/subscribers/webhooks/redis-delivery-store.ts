import type { Result } from 'ioredis';
import { connectRedis } from '../../redis/connection.js';
import { acquireLeases, LEASE_SCRIPTS, releaseLeases } from '../../redis/lease.js';
import { redisErrorMapper, withMappedErrors } from '../../redis/report.js';
import { type Attempt, type Cursor, type DeliveryStore, MAX_KEPT_ATTEMPTS } from './delivery-store.js';

/** KEYS: instances. ARGV: instance, TTL in milliseconds. Returns all live instances, by the clock of Redis. */
const HEARTBEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
`;

/** KEYS: lease, cursor, attempts. ARGV: instance, cursor, attempt or '', attempts to keep. Returns 1 if saved. */
const SAVE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
  redis.call('LTRIM', KEYS[3], 0, ARGV[4] - 1)
end
return 1
`;

const SCRIPTS = {
  keyledgerHeartbeat: { lua: HEARTBEAT, numberOfKeys: 1 },
  ...LEASE_SCRIPTS,
  keyledgerSaveCursor: { lua: SAVE, numberOfKeys: 3 },
};

/**
 * A delivery store in Redis, which may still be unavailable. Its keys are `<prefix>:{webhooks-<log id>}:…`, all on one
 * node of a cluster, because an instance acquires its leases in one script.
 * @param url see connectRedis
 * @param prefix of every key in Redis
 */
export function openRedisDeliveryStore(url: string, prefix: string, logId: string): DeliveryStore {
  const redis = connectRedis(url, SCRIPTS);
  const base = `${prefix}:{webhooks-${logId}}`;
  const lease = (id: string) => `${base}:lease:${id}`;
  const cursor = (id: string) => `${base}:cursor:${id}`;
  const attempts = (id: string) => `${base}:attempts:${id}`;
  const store: DeliveryStore = {
    heartbeat: async (instance, ttlMs) => (await redis.keyledgerHeartbeat(`${base}:instances`, instance, ttlMs)).sort(),
    acquireLeases: async (instance, webhookIds, ttlMs) => {
      const held = await acquireLeases(redis, webhookIds.map(lease), instance, ttlMs);
      return new Set(webhookIds.filter((id) => held.has(lease(id))));
    },
    releaseLeases: (instance, webhookIds) => releaseLeases(redis, webhookIds.map(lease), instance),
    cursor: async (id) => {
      const text = await redis.get(cursor(id));
      return text === null ? undefined : (JSON.parse(text) as Cursor);
    },
    save: async (instance, id, saved, attempt) => {
      const entry = attempt === undefined ? '' : JSON.stringify(attempt);
      const keys = [lease(id), cursor(id), attempts(id)] as const;
      return (
        (await redis.keyledgerSaveCursor(...keys, instance, JSON.stringify(saved), entry, MAX_KEPT_ATTEMPTS)) === 1
      );
    },
    attempts: async (id) => (await redis.lrange(attempts(id), 0, -1)).map((text) => JSON.parse(text) as Attempt),
    deleteWebhook: async (id) => {
      await redis.unlink(lease(id), cursor(id), attempts(id));
    },
    close: async () => redis.disconnect(),
  };
  return withMappedErrors(store, redisErrorMapper(redis, url));
}

declare module 'ioredis' {
  interface RedisCommander<Context> {
    keyledgerHeartbeat(instances: string, instance: string, milliseconds: number): Result<string[], Context>;
    keyledgerSaveCursor(
      lease: string,
      cursor: string,
      attempts: string,
      instance: string,
      saved: string,
      attempt: string,
      kept: number,
    ): Result<0 | 1, Context>;
  }
}
