import { setImmediate, setTimeout } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import type { EpochMs } from '../domain/time.js';
import { chunksOf } from '../grouping.js';
import type { LastUse, LastUsedStore } from './last-used-store.js';

const FLUSH_MS = 60_000;
/** Time to write the remaining uses when the service stops. */
const STOP_TIMEOUT_MS = 2000;
/** Keys that are written or read between two yields to the event loop. */
const CHUNK_SIZE = 250;
/** A large Map blocks verifications for 100 ms whenever it grows or shrinks; 256 small ones do not. */
const PART_COUNT = 256;

/**
 * Tracks when each key was last used, to the minute. Uses may be lost (a killed process, a long outage of the store),
 * and nothing else fails or waits because of them.
 */
export class LastUsedTracker {
  readonly #store: LastUsedStore;
  readonly #logger: BaseLogger;
  readonly #timer: NodeJS.Timeout;
  /** The latest use of each key that the store does not have yet. */
  readonly #unwritten: readonly Map<string, EpochMs>[] = Array.from({ length: PART_COUNT }, () => new Map());
  #flushing: Promise<void> | undefined;
  #outage = false;
  #stopped: Promise<void> | undefined;
  #closed = false;

  /**
   * @param store which stop() closes
   * @param intervalMs between writes of new uses
   */
  constructor(store: LastUsedStore, logger: BaseLogger, intervalMs = FLUSH_MS) {
    this.#store = store;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.#flush(), intervalMs).unref();
  }

  record(apiKeyId: string, at: EpochMs): void {
    this.#partOf(apiKeyId).set(apiKeyId, at);
  }

  /**
   * Stores uses that another process reports, a few hundred at most; that process discards them when this resolves.
   * @throws Error the store is unavailable
   */
  report(uses: readonly LastUse[]): Promise<void> {
    return this.#store.write(uses);
  }

  /**
   * The last use of each of the keys that was used.
   * @throws Error the store is unavailable
   */
  async lastUsed(apiKeyIds: readonly string[]): Promise<ReadonlyMap<string, EpochMs>> {
    const found = new Map<string, EpochMs>();
    for (const [i, ids] of [...chunksOf(apiKeyIds, CHUNK_SIZE)].entries()) {
      if (i > 0) await setImmediate();
      // Read before the store: a use that is flushed meanwhile is in one of the two.
      const unwritten = ids.map((id) => this.#partOf(id).get(id));
      const stored = await this.#store.read(ids);
      ids.forEach((id, n) => {
        const at = Math.max(unwritten[n] ?? -1, stored.get(id) ?? -1);
        if (at >= 0) found.set(id, at);
      });
    }
    return found;
  }

  /** Writes the remaining uses, for two seconds at most, and closes the store. */
  stop(): Promise<void> {
    this.#stopped ??= this.#finish();
    return this.#stopped;
  }

  async #finish(): Promise<void> {
    clearInterval(this.#timer);
    const written = new AbortController();
    const rest = async () => {
      await this.#flushing;
      await this.#flush();
      written.abort();
    };
    const late = setTimeout(STOP_TIMEOUT_MS, undefined, { signal: written.signal }).catch(() => undefined);
    await Promise.race([rest(), late]);
    this.#closed = true;
    await this.#store.close();
  }

  /** One at a time: a flush that takes longer than the interval is not overtaken. */
  #flush(): Promise<void> {
    this.#flushing ??= this.#writeAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #writeAll(): Promise<void> {
    try {
      for (const chunk of chunksOf(this.#uses(), CHUNK_SIZE)) {
        await this.#store.write(chunk);
        for (const [id, at] of chunk) {
          const part = this.#partOf(id);
          if (part.get(id) === at) part.delete(id);
        }
        await setImmediate();
        if (this.#closed) return;
        if (this.#outage) this.#logger.info('Last uses of keys are written again');
        this.#outage = false;
      }
    } catch (error) {
      // Unwritten uses stay for the next flush.
      if (!this.#outage && !this.#closed)
        this.#logger.warn({ err: { message: (error as Error).message } }, 'Last uses of keys cannot be written');
      this.#outage = true;
    }
  }

  /**
   * Each key that is unwritten when its part is reached, once; a use that is recorded meanwhile comes later or stays
   * for the next flush.
   */
  *#uses(): Generator<LastUse> {
    for (const part of this.#unwritten) {
      const uses = part.entries();
      for (let left = part.size; left > 0; left--) yield uses.next().value as [string, EpochMs];
    }
  }

  /** Ids are UUIDs, so the first digits serve as a hash, and ids that are written together are stored together. */
  #partOf(id: string): Map<string, EpochMs> {
    const hash = id.charCodeAt(0) * 961 + id.charCodeAt(1) * 31 + id.charCodeAt(2);
    return this.#unwritten[hash & (PART_COUNT - 1)] as Map<string, EpochMs>;
  }
}
