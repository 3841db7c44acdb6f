/** When a key was last used: milliseconds since 1970. */
export type LastUse = readonly [apiKeyId: string, at: number];

/**
 * Where last uses are kept, for all processes of the service. It may be out of reach at any time, and may
 * forget: nothing rests on it. A call takes as long as its batch is large, so hand it a few hundred at a time.
 */
export interface LastUsedStore {
  /**
   * Keeps the later of what is there and what comes, so batches of several processes may come in any order.
   * @throws Error it is out of reach; some of the batch may be in it
   */
  write(batch: readonly LastUse[]): Promise<void>;
  /**
   * The last uses of those keys that it knows.
   * @throws Error it is out of reach
   */
  read(apiKeyIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Ends it; every later call throws. */
  close(): Promise<void>;
}
