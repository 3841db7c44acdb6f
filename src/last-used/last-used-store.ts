import type { EpochMs } from '../domain/time.js';

export type LastUse = readonly [apiKeyId: string, at: EpochMs];

/**
 * Store of last uses, shared by all processes of the service. It may be unavailable or lose data at any time: nothing
 * depends on it. A call takes time in proportion to its batch, so pass a few hundred at a time.
 */
export interface LastUsedStore {
  /**
   * Keeps the later use of each key, so that batches of several processes may arrive in any order.
   * @throws Error the store is unavailable; it may hold a part of the batch
   */
  write(batch: readonly LastUse[]): Promise<void>;
  /**
   * The last use of each key that the store knows.
   * @throws Error the store is unavailable
   */
  read(apiKeyIds: readonly string[]): Promise<ReadonlyMap<string, EpochMs>>;
  /** Every later call throws. */
  close(): Promise<void>;
}
