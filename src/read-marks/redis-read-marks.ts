import { connectRedis } from '../projections/redis-connection.js';
import { MAX_MARKS, type ReadMarks } from './read-marks.js';

/**
 * Read marks in Redis, which need not be there yet: a sorted set `<prefix>:read:{<caller>}` of event numbers for each
 * caller, whose scores are when they were marked (milliseconds since 1970).
 * @param url as of connectRedis
 * @param prefix of every key in Redis
 */
export function openRedisReadMarks(url: string, prefix: string): ReadMarks {
  const redis = connectRedis(url);
  const key = (caller: string) => `${prefix}:read:{${caller}}`;
  return {
    mark: async (caller, eventNumbers) => {
      const scored = eventNumbers.flatMap((number) => [String(Date.now()), String(number)]);
      await redis.zadd(key(caller), 'NX', ...scored);
      await redis.zremrangebyrank(key(caller), 0, -1 - MAX_MARKS);
    },
    unmark: async (caller, eventNumbers) => {
      await redis.zrem(key(caller), ...eventNumbers.map(String));
    },
    of: async (caller) => new Set((await redis.zrange(key(caller), '0', '-1')).map(Number)),
    close: async () => redis.disconnect(),
  };
}
