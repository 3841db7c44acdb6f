import { connectRedis } from '../redis/connection.js';
import { redisErrorMapper, withMappedErrors } from '../redis/report.js';
import { MAX_MARKS, type ReadMarks } from './read-marks.js';

/** A caller's marks expire when the caller marks nothing for a year. */
const UNUSED_MS = 365 * 24 * 3600 * 1000;

/**
 * Read marks in Redis, which may be unavailable at first: a sorted set `<prefix>:read:{<caller>}` of event numbers for
 * each caller, whose scores are the times of the marks (EpochMs).
 * @param url see connectRedis
 * @param prefix of every key in Redis
 */
export function openRedisReadMarks(url: string, prefix: string): ReadMarks {
  const redis = connectRedis(url);
  const key = (caller: string) => `${prefix}:read:{${caller}}`;
  const store: ReadMarks = {
    mark: async (caller, eventNumbers) => {
      const scored = eventNumbers.flatMap((number) => [String(Date.now()), String(number)]);
      await redis.zadd(key(caller), 'NX', ...scored);
      await redis.zremrangebyrank(key(caller), 0, -1 - MAX_MARKS);
      await redis.pexpire(key(caller), UNUSED_MS);
    },
    unmark: async (caller, eventNumbers) => {
      await redis.zrem(key(caller), ...eventNumbers.map(String));
    },
    of: async (caller) => new Set((await redis.zrange(key(caller), '0', '-1')).map(Number)),
    among: async (caller, eventNumbers) => {
      if (eventNumbers.length === 0) return new Set();
      const scores = await redis.zmscore(key(caller), ...eventNumbers.map(String));
      return new Set(eventNumbers.filter((_, i) => scores[i] != null));
    },
    close: async () => redis.disconnect(),
  };
  return withMappedErrors(store, redisErrorMapper(redis, url));
}
