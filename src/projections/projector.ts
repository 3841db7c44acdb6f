import { setImmediate } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { sleep } from '../back-off.js';
import { type ErrorCode, KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { chunksOf } from '../grouping.js';
import type { ClockReading } from '../staleness-clock.js';
import { toListItem } from './list-item.js';
import type { BuildProgress } from './local/file.js';
import { withKeySource } from './local/key-source.js';
import type { LiveFile, LiveFileEvents } from './local/live-file.js';
import { type BuildFile, LocalProjections } from './local/local-projections.js';
import type { Folded, ProjectionStore } from './local/store.js';
import { ProjectionProgress } from './projection-progress.js';
import { logContains, type ReadModel } from './read-model.js';
import { type Fold, ReadModelWriter } from './read-model-writer.js';
import { backOff } from './retry.js';
import { Tail } from './tail.js';

const LOG_END_POLL_MS = 1000;
/** Events in one transaction, and so in one turn of the event loop: a few milliseconds. */
const COMMIT_EVENTS = 64;
const FOREIGN_EVENTS =
  'Skipping foreign events in streams whose names begin like those of Keyledger. keyledger audit verify lists them; EVENT_STORE_PREFIX keeps services apart';

type Readiness = { readonly ok: true } | { readonly ok: false; readonly code: ErrorCode; readonly reason: string };
/** What an instance can do now: verify keys, take traffic, serve lists. */
export type ProjectorStatus = Readonly<Record<'verify' | 'ready' | 'list', Readiness>>;

const OK: Readiness = { ok: true };
const notOk = (code: ErrorCode, reason: string): Readiness => ({ ok: false, code, reason });

export type ProjectorOptions = {
  readonly log: EventStore;
  /** Folder of the projections file. */
  readonly folder: string;
  /** Undefined: lists are served from the projections of this process. */
  readonly readModel: ReadModel | undefined;
  /** See LocalProjections. */
  readonly buildFile?: BuildFile | undefined;
  readonly logger: BaseLogger;
  readonly clock: () => EpochMs;
  /** Called if the log no longer holds what was folded: only a new process can start again. */
  readonly onLogReplaced: (error: Error) => void;
};

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
  readonly #writer: ReadModelWriter | undefined;
  readonly #stop = new AbortController();
  readonly #webhookListeners = new Set<(webhookId: string) => void>();
  #running: Promise<unknown> = Promise.resolve();
  #file: LiveFile | undefined;
  /** Aborted when the file is damaged, or another is to take its place. */
  #useEnds = new AbortController();
  #damage: Error | undefined;
  /** 'folding' until the projections first reach the end of the log. */
  #state: 'starting' | 'folding' | 'following' | 'damaged' | 'log replaced' = 'starting';
  /** Why events cannot be written to the projections at present. */
  #stalled: Error | undefined;
  #caughtUp = false;
  /** When the last folded event was recorded. */
  #lastRecordedAt: EpochMs | undefined;
  #skippedForeign = 0;

  constructor(options: ProjectorOptions) {
    const { log, logger, clock, readModel } = options;
    this.#log = log;
    this.#logger = logger;
    this.#now = () => ({ clock: clock(), steady: performance.now() });
    this.#onLogReplaced = options.onLogReplaced;
    this.#local = new LocalProjections(options);
    this.tail = new Tail(log);
    this.indexProgress = new ProjectionProgress(this.#now);
    const [now, fold, stopped] = [this.#now, () => this.#fold(), this.#stop.signal];
    this.#writer = readModel && new ReadModelWriter({ log, readModel, logger, now, fold, stopped });
  }

  start(): void {
    this.#running = Promise.all([this.#run(), this.#pollLogEnd()]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.indexProgress.stop();
    const writerStopped = this.#writer?.stop();
    await this.#running;
    await writerStopped;
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
    return this.#skippedForeign;
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
    const verify = this.#verifyStatus();
    if (!verify.ok) return { verify, ready: verify, list: verify };
    const stalled = this.#stalled ? notOk('UNAVAILABLE', this.#stalledReason()) : OK;
    if (!this.#writer) return { verify, ready: stalled, list: OK };
    const synced = this.#writer.firstSyncAttempted ? stalled : notOk('UNAVAILABLE', 'The read model is being built');
    const isComplete = this.#writer.isComplete;
    const list = isComplete ? OK : notOk('UNAVAILABLE', 'The read model is being restored from the log');
    return { verify, ready: synced, list };
  }

  #verifyStatus(): Readiness {
    switch (this.#state) {
      case 'log replaced':
        return notOk('UNAVAILABLE', 'The log was restored from an older copy');
      case 'damaged':
        return notOk(
          'PROJECTIONS_DAMAGED',
          this.#local.problem ?? 'The projections were damaged and are being built anew',
        );
      case 'following':
        return OK;
      default:
        return notOk(
          'STARTING',
          this.#local.problem ?? (this.#stalled ? this.#stalledReason() : 'This instance is still reading the log'),
        );
    }
  }

  #stalledReason(): string {
    return `The projections cannot be written: ${this.#stalled?.message}`;
  }

  /** Age in seconds of the last folded event while the read model does not hold it; 0 once it does. */
  get lag(): number {
    if (this.#caughtUp && (this.#writer?.isCurrent ?? true)) return 0;
    return this.#lastRecordedAt === undefined ? 0 : Math.max(0, this.#now().clock - this.#lastRecordedAt) / 1000;
  }

  /** Calls back synchronously when an event of a webhook was folded. @returns a function that unsubscribes */
  onWebhookChanged(listener: (webhookId: string) => void): () => void {
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
      if (!isOver && !this.#damage) file = await this.#takeNext(file);
      if (!this.#damage) continue;
      await file?.close('as it is');
      this.#local.putAside(this.#damage.message);
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
    const { position } = file.store;
    if (position !== undefined) this.tail.startAt(position);
    this.indexProgress.advanceTo(position);
    // Changes may have been folded elsewhere: in an earlier process, or while the file was built.
    this.#writer?.resync();
  }

  /** @returns the file to go on with; undefined: it has to be opened */
  async #takeNext(old: LiveFile): Promise<LiveFile | undefined> {
    try {
      return (await this.#local.takeNext(old, this.#fileEvents)) ?? old;
    } catch (error) {
      this.#file = undefined;
      this.#state = 'starting';
      this.#logger.warn({ err: error }, 'The new projections cannot be opened');
      return undefined;
    }
  }

  async #follow(file: LiveFile, signal: AbortSignal): Promise<void> {
    if (this.#state === 'starting') this.#state = 'folding';
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        if (!(await this.#logContinues(file))) return this.#failLogReplaced();
        for await (const batch of this.#log.subscribe(this.indexProgress.position, signal)) {
          await this.#foldBatch(file, batch, signal);
          failures = 0;
        }
        if (!signal.aborted) throw new Error('The subscription ended');
      } catch (error) {
        this.#caughtUp = false;
        if (signal.aborted) return;
        const what =
          error === this.#stalled ? 'The projections cannot be written' : 'The subscription to the log broke';
        await backOff(what, error, failures, this.#logger, signal);
      }
    }
  }

  /** Does the log still hold the last folded event? While it was unavailable, an older copy may have replaced it. */
  async #logContinues({ store: { checkpoint } }: LiveFile): Promise<boolean> {
    return checkpoint === undefined || logContains(this.#log, checkpoint);
  }

  #failLogReplaced(): void {
    this.#state = 'log replaced';
    const error = new KeyledgerError('UNAVAILABLE', { message: 'The log was restored from an older copy' });
    this.tail.fail(error);
    this.#onLogReplaced(error);
  }

  /** Folds a batch in slices, between which the event loop goes on. */
  async #foldBatch(file: LiveFile, batch: EventBatch, signal: AbortSignal): Promise<void> {
    this.#skipForeign(batch.foreign ?? []);
    for (const slice of slicesOf(batch)) {
      this.#foldSlice(file, slice);
      await file.walHasRoom();
      if (slice.position !== batch.position) await setImmediate();
      if (signal.aborted) return;
    }
  }

  #foldSlice(file: LiveFile, slice: EventBatch): void {
    const folded = this.#commit(file, slice.events);
    this.#stalled = undefined;
    this.#caughtUp = slice.caughtUp;
    const last = slice.events.at(-1);
    if (last) this.#lastRecordedAt = Date.parse(last.recordedAt);
    if (slice.caughtUp && this.#state !== 'log replaced') this.#state = 'following';
    this.indexProgress.advanceTo(slice.position);
    this.tail.publish(slice, new Set(folded.flatMap(({ repoId }) => repoId ?? [])));
    for (const { apiKey } of folded) if (apiKey) this.#writer?.add(toListItem(apiKey));
    for (const { webhookId } of folded) if (webhookId !== undefined) this.#notifyWebhook(webhookId);
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

  #notifyWebhook(webhookId: string): void {
    for (const notify of this.#webhookListeners) notify(webhookId);
  }

  #fold(): Fold {
    const file = this.#file;
    return {
      position: this.indexProgress.position,
      checkpoint: file?.store.checkpoint,
      withSource: async (use) => {
        if (!file) throw new KeyledgerError('STARTING', { expected: true });
        return withKeySource(file.path, use);
      },
    };
  }

  /** Reads the end of the log once a second, which tells a quiet log from an unavailable one. */
  async #pollLogEnd(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const askedAt = this.#now();
      const confirm = async (progress: ProjectionProgress, end: Position) => {
        if (await progress.waitFor(end)) progress.confirmCurrentAt(askedAt);
      };
      try {
        const end = await this.#log.end();
        if (this.#writer) void confirm(this.#writer.progress, end);
        await confirm(this.indexProgress, end);
      } catch (error) {
        this.#logger.debug({ err: error }, 'The end of the log is unknown');
      }
      await sleep(LOG_END_POLL_MS, signal);
    }
  }

  #skipForeign(foreign: readonly RecordedEvent[]): void {
    const [first] = foreign;
    if (!first) return;
    if (this.#skippedForeign === 0) {
      const { stream, type, position } = first;
      this.#logger.warn({ stream, type, position }, FOREIGN_EVENTS);
    }
    this.#skippedForeign += foreign.length;
  }
}

/** The events of a batch in slices; the last one is as far as the batch. */
function* slicesOf({ events, position, caughtUp }: EventBatch): Generator<EventBatch> {
  for (const slice of events.length > 0 ? chunksOf(events, COMMIT_EVENTS) : [[]]) {
    const last = slice.at(-1);
    if (last === events.at(-1)) yield { events: slice, position, caughtUp };
    else if (last) yield { events: slice, position: last.position, caughtUp: false };
  }
}
