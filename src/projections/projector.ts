import { setImmediate } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { ClockReading } from '../staleness-clock.js';
import { slicesOf } from './batch-slices.js';
import { ForeignEvents } from './foreign-events.js';
import { toListItem } from './list-item.js';
import type { BuildProgress } from './local/file.js';
import { foldOf } from './local/fold.js';
import type { LiveFile, LiveFileEvents } from './local/live-file.js';
import { LocalProjections } from './local/local-projections.js';
import type { Folded, ProjectionStore } from './local/store.js';
import { pollLogEnd } from './poll-log-end.js';
import { ProjectionProgress } from './projection-progress.js';
import type { ProjectorOptions } from './projector-options.js';
import { type ProjectorState, type ProjectorStatus, projectorStatus } from './projector-status.js';
import { logContinues } from './read-model.js';
import { ReadModelWriter } from './read-model-writer.js';
import { backOff } from './retry.js';
import { Tail } from './tail.js';

/**
 * The one loop from the log to the projections: opens the projections file of this process, folds each batch of events
 * into it, publishes the batch to the tail and passes the changed keys to the writer of the read model. A file that is
 * damaged is built anew.
 */
export class Projector {
  readonly tail: Tail;
  /** How much of the log the projections of this process hold. */
  readonly indexProgress: ProjectionProgress;
  readonly #log: EventStore;
  readonly #logger: BaseLogger;
  readonly #now: () => ClockReading;
  readonly #onLogReplaced: (error: Error) => void;
  readonly #local: LocalProjections;
  readonly #foreign: ForeignEvents;
  readonly #writer: ReadModelWriter | undefined;
  readonly #stop = new AbortController();
  readonly #webhookListeners = new Set<(webhookId?: string) => void>();
  #running: Promise<unknown> = Promise.resolve();
  #file: LiveFile | undefined;
  /** Aborted when the file is damaged, or another is to take its place. */
  #useEnds = new AbortController();
  #damage: Error | undefined;
  /** 'folding' until the projections first reach the end of the log. */
  #state: ProjectorState = 'starting';
  /** Aborted while there is no subscription to a log that is known to be the one that was folded. */
  #logIsSame = AbortSignal.abort();
  /** Why events cannot be written to the projections at present. */
  #stalled: Error | undefined;
  #caughtUp = false;
  /** When the last folded event was recorded. */
  #lastRecordedAt: EpochMs | undefined;

  constructor(options: ProjectorOptions) {
    const { log, logger, clock, readModel } = options;
    this.#log = log;
    this.#logger = logger;
    this.#now = () => ({ clock: clock(), steady: performance.now() });
    this.#onLogReplaced = options.onLogReplaced;
    this.#local = new LocalProjections(options);
    this.#foreign = new ForeignEvents(logger);
    this.tail = new Tail(log);
    this.indexProgress = new ProjectionProgress(this.#now);
    const fold = () => foldOf(this.#file, this.indexProgress.position, this.#logIsSame);
    const [now, stopped] = [this.#now, this.#stop.signal];
    this.#writer = readModel && new ReadModelWriter({ log, readModel, logger, now, fold, stopped });
  }

  start(): void {
    const { signal } = this.#stop;
    const progresses = this.#writer ? [this.indexProgress, this.#writer.progress] : [this.indexProgress];
    const polling = pollLogEnd(this.#log, progresses, this.#now, this.#logger, signal);
    this.#running = Promise.all([this.#run(), polling]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.indexProgress.stop();
    const writerStopped = this.#writer?.stop();
    await Promise.all([this.#running, writerStopped]);
    await this.#file?.close('whole');
    this.#local.release();
  }

  /** The projections. @throws KeyledgerError STARTING, PROJECTIONS_DAMAGED: there are none at present */
  get store(): ProjectionStore {
    if (this.#file && this.#state === 'following') return this.#file.store;
    throw new KeyledgerError(this.#state === 'damaged' ? 'PROJECTIONS_DAMAGED' : 'STARTING');
  }

  /** How much of the log the lists hold. */
  get readModelProgress(): ProjectionProgress {
    return this.#writer?.progress ?? this.indexProgress;
  }

  /** Number of skipped foreign events. */
  get foreignEvents(): number {
    return this.#foreign.skipped;
  }

  /** Number of keys whose history cannot be decoded or folded. */
  get quarantined(): number {
    return this.#file?.store.meta.quarantined ?? 0;
  }

  /** Progress of building the projections; undefined if they are not being built. */
  get building(): BuildProgress | undefined {
    return this.#local.building;
  }

  /**
   * An instance is ready after its first attempt to write the read model: a new release thus writes its version before
   * it replaces older instances, and an unavailable read model stops no instance from verifying.
   */
  get status(): ProjectorStatus {
    return projectorStatus(this.#state, this.#local.problem, this.#stalled, this.#writer);
  }

  /** Age in seconds of the last folded event while the read model does not hold it; 0 once it does. */
  get lag(): number {
    const isCurrent = this.#caughtUp && (this.#writer?.isCurrent ?? true);
    return isCurrent || !this.#lastRecordedAt ? 0 : Math.max(0, this.#now().clock - this.#lastRecordedAt) / 1000;
  }

  /**
   * Calls back synchronously when an event of a webhook was folded, and without an id when any webhook may have changed.
   * @returns a function that unsubscribes
   */
  onWebhookChanged(listener: (webhookId?: string) => void): () => void {
    this.#webhookListeners.add(listener);
    return () => this.#webhookListeners.delete(listener);
  }

  /** Writes the whole read model again, after a reader found that it lost data. */
  restoreReadModel(): void {
    this.#writer?.restore();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let file: LiveFile | undefined;
    while (!signal.aborted && this.#state !== 'log replaced') {
      this.#useEnds = new AbortController();
      file ??= await this.#local.open(this.#fileEvents, signal);
      if (!file) return;
      this.#use(file);
      await this.#follow(file, AbortSignal.any([signal, this.#useEnds.signal]));
      const isOver = !this.#useEnds.signal.aborted;
      if (!isOver && !this.#damage) {
        file = await this.#local.takeNext(file, this.#fileEvents);
        if (!file) [this.#file, this.#state] = [undefined, 'starting'];
      }
      if (!this.#damage) continue;
      await file?.close('as it is');
      this.#local.condemn(this.#damage.message);
      this.#damage = undefined;
      file = undefined;
    }
  }

  readonly #fileEvents: LiveFileEvents = {
    onDamage: (error) => {
      if (this.#damage || this.#state === 'log replaced') return;
      this.#logger.error({ err: error }, 'The projections are damaged');
      this.#damage = (error.cause ?? error) as Error;
      // No answer comes from the file any more.
      this.#file = undefined;
      this.#state = 'damaged';
      this.#useEnds.abort();
    },
    onNext: () => this.#useEnds.abort(),
  };

  #use(file: LiveFile): void {
    this.#file = file;
    if (file.store.position !== undefined) this.tail.startAt(file.store.position);
    this.indexProgress.advanceTo(file.store.position);
    // Changes may have been folded elsewhere: in an earlier process, or while the file was built.
    this.#writer?.resync();
    for (const notify of this.#webhookListeners) notify();
  }

  async #follow(file: LiveFile, signal: AbortSignal): Promise<void> {
    if (this.#state === 'starting') this.#state = 'folding';
    for (let failures = 0; !signal.aborted; failures++) {
      const subscription = new AbortController();
      try {
        if (!(await logContinues(this.#log, file.store.checkpoint))) return this.#failLogReplaced();
        this.#logIsSame = subscription.signal;
        for await (const batch of this.#log.subscribe(this.indexProgress.position, signal)) {
          await this.#foldBatch(file, batch, signal);
          failures = 0;
        }
        if (!signal.aborted) throw new Error('The subscription ended');
        subscription.abort();
      } catch (error) {
        subscription.abort();
        this.#caughtUp = false;
        if (signal.aborted) return;
        const what =
          error === this.#stalled ? 'The projections cannot be written' : 'The subscription to the log broke';
        await backOff(what, error, failures, this.#logger, signal);
      }
    }
  }

  #failLogReplaced(): void {
    this.#state = 'log replaced';
    const error = new KeyledgerError('UNAVAILABLE', { message: 'The log was restored from an older copy' });
    this.tail.fail(error);
    this.#onLogReplaced(error);
  }

  /** Folds a batch in slices, between which the event loop goes on. */
  async #foldBatch(file: LiveFile, batch: EventBatch, signal: AbortSignal): Promise<void> {
    this.#foreign.skip(batch.foreign ?? []);
    for (const slice of slicesOf(batch)) {
      if (signal.aborted) return; // Damage may have been found since the last slice.
      this.#foldSlice(file, slice);
      await file.walHasRoom();
      if (slice.position !== batch.position) await setImmediate();
    }
  }

  #foldSlice(file: LiveFile, slice: EventBatch): void {
    const folded = this.#commit(file, slice.events);
    this.#stalled = undefined;
    this.#caughtUp = slice.caughtUp;
    const last = slice.events.at(-1);
    if (last) this.#lastRecordedAt = Date.parse(last.recordedAt);
    if (slice.caughtUp && this.#state !== 'log replaced' && !this.#damage) this.#state = 'following';
    this.indexProgress.advanceTo(slice.position);
    this.tail.publish(slice, new Set(folded.flatMap(({ repoId }) => repoId ?? [])));
    for (const { apiKey } of folded) if (apiKey) this.#writer?.add(toListItem(apiKey));
    for (const notify of this.#webhookListeners) {
      for (const { webhookId } of folded) if (webhookId !== undefined) notify(webhookId);
    }
    if (this.#state === 'following') this.#writer?.start();
  }

  /** @throws Error the projections cannot be written */
  #commit(file: LiveFile, events: readonly RecordedEvent[]): Folded[] {
    if (events.length === 0) return [];
    try {
      const folded = events.map((event) => file.store.fold(event));
      file.commit();
      return folded;
    } catch (error) {
      file.store.discard();
      this.#stalled = error as Error;
      throw error;
    }
  }
}
