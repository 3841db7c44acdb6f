import { randomUUID } from 'node:crypto';
import type { Result } from 'ioredis';
import type { Connection } from './connection.js';

/** KEYS: leases. ARGV: holder, TTL in milliseconds. Acquires free leases, renews the holder's; 1 for each held. */
const ACQUIRE = `
local held = {}
for i, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if not holder or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    held[i] = 1
  else held[i] = 0 end
end
return held
`;

/** KEYS: leases. ARGV: holder. */
const RELEASE = `
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
`;

export const LEASE_SCRIPTS = {
  keyledgerAcquireLeases: { lua: ACQUIRE },
  keyledgerReleaseLeases: { lua: RELEASE },
};

/**
 * Acquires free leases, and renews those of the holder.
 * @param keys of the leases; in a cluster all of one hash slot
 * @returns which of the keys the holder holds now
 */
export async function acquireLeases(
  redis: Connection,
  keys: readonly string[],
  holder: string,
  ttlMs: number,
): Promise<ReadonlySet<string>> {
  if (keys.length === 0) return new Set();
  const held = await redis.keyledgerAcquireLeases(keys.length, ...keys, holder, ttlMs);
  return new Set(keys.filter((_, i) => held[i] === 1));
}

/** Releases the leases that the holder holds. */
export async function releaseLeases(redis: Connection, keys: readonly string[], holder: string): Promise<void> {
  if (keys.length > 0) await redis.keyledgerReleaseLeases(keys.length, ...keys, holder);
}

/** One lease, which its holder renews after half of its TTL. */
export class Lease {
  readonly #redis: Connection;
  readonly #key: string;
  readonly #ttlMs: number;
  readonly #holder = randomUUID();
  /** By performance.now(). */
  #endsAt = 0;

  constructor(redis: Connection, key: string, ttlMs: number) {
    this.#redis = redis;
    this.#key = key;
    this.#ttlMs = ttlMs;
  }

  /** Acquires the lease if it is free, renews it if due. @returns true if this process holds it */
  async hold(): Promise<boolean> {
    const now = performance.now();
    if (now < this.#endsAt - this.#ttlMs / 2) return true;
    const held = await acquireLeases(this.#redis, [this.#key], this.#holder, this.#ttlMs);
    this.#endsAt = held.size > 0 ? now + this.#ttlMs : 0;
    return held.size > 0;
  }

  release(): Promise<void> {
    return releaseLeases(this.#redis, [this.#key], this.#holder);
  }
}

declare module 'ioredis' {
  interface RedisCommander<Context> {
    keyledgerAcquireLeases(keyCount: number, ...keysHolderTtl: (string | number)[]): Result<(0 | 1)[], Context>;
    keyledgerReleaseLeases(keyCount: number, ...keysHolder: string[]): Result<0, Context>;
  }
}
