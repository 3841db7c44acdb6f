import type { BaseLogger } from 'pino';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ClockReading } from '../staleness-clock.js';
import type { ListItem } from './list-item.js';
import { ProjectionProgress } from './projection-progress.js';
import { type Checkpoint, logContains, type ReadModel, ReadModelLost } from './read-model.js';
import { backOff } from './retry.js';

/** Snapshot of the fold: every key, and the last event that it includes. */
export type FoldSnapshot = {
  readonly position: Position | undefined;
  readonly checkpoint: Checkpoint | undefined;
  items(): readonly ListItem[];
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
  readonly #fold: () => FoldSnapshot;
  readonly #stopped: AbortSignal;
  /** Complete: it holds everything up to `progress`, except for pending changes. */
  #state: 'never synced' | 'incomplete' | 'complete' = 'never synced';
  /** Documents that the read model does not hold yet, one per key. */
  #pending = new Map<string, ListItem>();
  #isWriting = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly log: EventStore;
    readonly readModel: ReadModel;
    readonly logger: BaseLogger;
    readonly now: () => ClockReading;
    readonly fold: () => FoldSnapshot;
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
    return this.isComplete && this.#fold().position === this.progress.position;
  }

  /** Queues a changed key for the next write; the first write includes every key anyway. */
  add(item: ListItem): void {
    if (this.isComplete || this.#isWriting) this.#pending.set(item.apiKeyId, item);
  }

  /** Starts writing, unless it is under way. */
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
      const { position, checkpoint, items } = this.#fold();
      const batch = this.#pending;
      this.#pending = new Map();
      try {
        if (!this.isComplete) {
          await this.#readModel.restore(items(), checkpoint, (held) => logContains(this.#log, held));
          this.#state = 'complete';
        } else if (checkpoint && batch.size > 0) {
          await this.#readModel.apply([...batch.values()], checkpoint);
        }
        this.progress.advanceTo(position);
        failures = 0;
      } catch (error) {
        if (!this.firstSyncAttempted) this.#state = 'incomplete';
        this.#pending = new Map([...batch, ...this.#pending]);
        if (error instanceof ReadModelLost) this.restore();
        await backOff('The read model cannot be written', error, failures++, this.#logger, this.#stopped);
      }
    }
    this.#isWriting = false;
  }
}
