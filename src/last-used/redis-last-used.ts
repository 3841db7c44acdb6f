import { crc32 } from 'node:zlib';
import type { EpochMs } from '../domain/time.js';
import { groupBy } from '../grouping.js';
import { type Connection, connectRedis } from '../redis/connection.js';
import { redisErrorMapper, withMappedErrors } from '../redis/report.js';
import type { LastUse, LastUsedStore } from './last-used-store.js';

/** Number of sorted sets, each on one node of a cluster. Part of the stored format. */
const PARTITIONS = 16;

/**
 * Last uses in Redis, which may be unavailable at first: sorted sets `<prefix>:{usage-<n>}` of key ids, whose scores
 * are EpochMs.
 * @param url see connectRedis
 * @param prefix of every key in Redis
 */
export function openRedisLastUsedStore(url: string, prefix: string): LastUsedStore {
  const redis = connectRedis(url);
  return withMappedErrors<LastUsedStore>(new RedisLastUsedStore(redis, prefix), redisErrorMapper(redis, url));
}

class RedisLastUsedStore implements LastUsedStore {
  readonly #redis: Connection;
  readonly #prefix: string;

  constructor(redis: Connection, prefix: string) {
    this.#redis = redis;
    this.#prefix = prefix;
  }

  async write(batch: readonly LastUse[]): Promise<void> {
    const partitions = [...groupBy(batch, ([apiKeyId]) => partitionOf(apiKeyId))];
    await Promise.all(
      partitions.map(([partition, uses]) =>
        this.#redis.zadd(this.#key(partition), 'GT', ...uses.flatMap(([apiKeyId, at]) => [at, apiKeyId])),
      ),
    );
  }

  async read(apiKeyIds: readonly string[]): Promise<ReadonlyMap<string, EpochMs>> {
    const found = new Map<string, EpochMs>();
    await Promise.all(
      [...groupBy(apiKeyIds, partitionOf)].map(async ([partition, ids]) => {
        const scores = await this.#redis.zmscore(this.#key(partition), ...ids);
        ids.forEach((id, i) => {
          const score = scores[i] ?? null;
          if (score !== null) found.set(id, Number(score));
        });
      }),
    );
    return found;
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }

  #key(partition: number): string {
    return `${this.#prefix}:{usage-${partition}}`;
  }
}

const partitionOf = (apiKeyId: string): number => crc32(apiKeyId) % PARTITIONS;
