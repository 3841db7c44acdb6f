import type { BaseLogger } from 'pino';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ClockReading } from '../staleness-clock.js';
import type { ListItem } from './list-item.js';
import { ProjectionProgress } from './projection-progress.js';
import { type Checkpoint, type KeySource, logContains, type ReadModel, ReadModelLost } from './read-model.js';
import { backOff } from './retry.js';

/** Documents that wait for the read model; with more of them, all that it lacks is read from the store again. */
const MAX_PENDING = 20_000;

/** How far the fold is, and its keys at one position. */
export type Fold = {
  /** Aborted when it is no longer known that the log is the one that was folded: it may have been restored. */
  readonly signal: AbortSignal;
  readonly position: Position | undefined;
  readonly checkpoint: Checkpoint | undefined;
  /** Calls back with the keys as of one position, which the fold may leave behind meanwhile. */
  withSource<T>(use: (source: KeySource) => Promise<T>): Promise<T>;
};

/**
 * Writes the fold to the read model: first everything, then each changed key, as one document per key. A slow or
 * unavailable read model delays nothing else.
 */
export class ReadModelWriter {
  /** How much of the log the read model holds. */
  readonly progress: ProjectionProgress;
  readonly #log: EventStore;
  readonly #readModel: ReadModel;
  readonly #logger: BaseLogger;
  readonly #fold: () => Fold;
  readonly #stopped: AbortSignal;
  /** Complete: it holds everything up to `progress`, except for pending changes. */
  #state: 'never synced' | 'incomplete' | 'complete' = 'never synced';
  /** Documents that the read model does not hold yet, one per key. */
  #pending = new Map<string, ListItem>();
  /** Changes were dropped, so the read model lacks more than the pending ones. */
  #isOverflown = false;
  #isWriting = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly log: EventStore;
    readonly readModel: ReadModel;
    readonly logger: BaseLogger;
    readonly now: () => ClockReading;
    readonly fold: () => Fold;
    readonly stopped: AbortSignal;
  }) {
    this.#log = options.log;
    this.#readModel = options.readModel;
    this.#logger = options.logger;
    this.#fold = options.fold;
    this.#stopped = options.stopped;
    this.progress = new ProjectionProgress(options.now);
  }

  get isComplete(): boolean {
    return this.#state === 'complete';
  }

  /** Has the first attempt to write everything succeeded or failed? */
  get firstSyncAttempted(): boolean {
    return this.#state !== 'never synced';
  }

  /** Does the read model hold everything that has been folded? */
  get isCurrent(): boolean {
    return this.isComplete && !this.#isOverflown && this.#fold().position === this.progress.position;
  }

  /** Queues a changed key for the next write; the first write includes every key anyway. */
  add(item: ListItem): void {
    if (!this.isComplete && !this.#isWriting) return;
    this.#pending.set(item.apiKeyId, item);
    if (this.#pending.size <= MAX_PENDING) return;
    this.#pending.clear();
    this.#isOverflown = true;
  }

  /** Reads from the store what the read model lacks, because changes may have passed by `add`. */
  resync(): void {
    this.#isOverflown = true;
    if (this.firstSyncAttempted) this.start();
  }

  /** Starts writing, unless it is under way. It ends by itself when the signal of the fold is aborted. */
  start(): void {
    if (!this.#isWriting) this.#writing = this.#write();
  }

  /** Writes everything again, after a reader found that the read model lost data. */
  restore(): void {
    if (!this.isComplete) return;
    this.#logger.warn('The read model has lost data; restoring it from the log');
    this.#state = 'incomplete';
    this.start();
  }

  /** Resolves when no write is under way; the caller has aborted `stopped` before. */
  async stop(): Promise<void> {
    this.progress.stop();
    await this.#writing;
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    for (let failures = 0; !this.#stopped.aborted && !this.isCurrent; ) {
      const { signal, position, checkpoint, withSource } = this.#fold();
      if (signal.aborted) break;
      const batch = this.#pending;
      const isOverflown = this.#isOverflown;
      this.#pending = new Map();
      this.#isOverflown = false;
      try {
        if (!this.isComplete || isOverflown) {
          const holds = (held: Checkpoint) => logContains(this.#log, held);
          await withSource((source) => this.#readModel.restore(source, holds, signal));
          this.#state = 'complete';
        } else if (checkpoint && batch.size > 0) {
          await this.#readModel.apply([...batch.values()], checkpoint, signal);
        }
        this.progress.advanceTo(position);
        failures = 0;
      } catch (error) {
        if (!this.firstSyncAttempted) this.#state = 'incomplete';
        this.#pending = new Map([...batch, ...this.#pending]);
        this.#isOverflown ||= isOverflown;
        if (signal.aborted) break;
        if (error instanceof ReadModelLost) this.restore();
        await backOff('The read model cannot be written', error, failures++, this.#logger, this.#stopped);
      }
    }
    this.#isWriting = false;
  }
}
