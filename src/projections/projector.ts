import type { BaseLogger } from 'pino';
import { sleep } from '../back-off.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import { peekEvent } from '../event-store/peek-event.js';
import type { Position } from '../event-store/position.js';
import { classifyStream } from '../event-store/streams.js';
import type { ClockReading } from '../staleness-clock.js';
import { ApiKeyIndex } from './api-key-index.js';
import { EventIndex } from './event-index.js';
import { toListItem } from './list-item.js';
import { ProjectionProgress } from './projection-progress.js';
import { logContains, type ReadModel } from './read-model.js';
import { type FoldSnapshot, ReadModelWriter } from './read-model-writer.js';
import { backOff } from './retry.js';
import { Tail } from './tail.js';
import { WebhookIndex } from './webhook-index.js';

const LOG_END_POLL_MS = 1000;
const FOREIGN_EVENTS =
  'Skipping foreign events in streams whose names begin like those of Keyledger. keyledger audit verify lists them; EVENT_STORE_PREFIX keeps services apart';

type Readiness = { readonly ok: true } | { readonly ok: false; readonly reason: string };
/** What an instance can do now: verify keys, take traffic, serve lists. */
export type ProjectorStatus = Readonly<Record<'verify' | 'ready' | 'list', Readiness>>;

const OK: Readiness = { ok: true };
const notOk = (reason: string): Readiness => ({ ok: false, reason });

/**
 * The one loop from the log to the projections: folds each batch of events into the indexes, publishes it to the tail
 * and passes the changed keys to the writer of the read model.
 */
export class Projector {
  readonly apiKeyIndex = new ApiKeyIndex();
  readonly webhookIndex = new WebhookIndex();
  readonly eventIndex = new EventIndex();
  readonly tail: Tail;
  /** How much of the log the indexes hold. */
  readonly indexProgress: ProjectionProgress;
  readonly #log: EventStore;
  readonly #logger: BaseLogger;
  readonly #now: () => ClockReading;
  readonly #onLogReplaced: (error: Error) => void;
  readonly #writer: ReadModelWriter;
  readonly #stop = new AbortController();
  readonly #webhookListeners = new Set<(webhookId: string) => void>();
  #running: Promise<unknown> = Promise.resolve();
  /** 'folding' until the indexes first reach the end of the log. */
  #state: 'folding' | 'following' | 'log replaced' = 'folding';
  #caughtUp = false;
  #last: RecordedEvent | undefined;
  #foreignEvents = 0;

  /** @param onLogReplaced called if the log no longer holds what was folded: only a new process can start again */
  constructor(
    log: EventStore,
    readModel: ReadModel,
    logger: BaseLogger,
    clock: () => EpochMs,
    onLogReplaced: (error: Error) => void,
  ) {
    this.#log = log;
    this.#logger = logger;
    this.#now = () => ({ clock: clock(), steady: performance.now() });
    this.#onLogReplaced = onLogReplaced;
    this.tail = new Tail(log);
    this.indexProgress = new ProjectionProgress(this.#now);
    const [now, fold, stopped] = [this.#now, () => this.#snapshot(), this.#stop.signal];
    this.#writer = new ReadModelWriter({ log, readModel, logger, now, fold, stopped });
  }

  start(): void {
    this.#running = Promise.all([this.#follow(), this.#pollLogEnd()]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.indexProgress.stop();
    const writerStopped = this.#writer.stop();
    await this.#running;
    await writerStopped;
  }

  /** How much of the log the read model holds. */
  get readModelProgress(): ProjectionProgress {
    return this.#writer.progress;
  }

  /** Number of skipped foreign events. */
  get foreignEvents(): number {
    return this.#foreignEvents;
  }

  /**
   * An instance is ready after its first attempt to write the read model: a new release thus writes its version before
   * it replaces older instances, and an unavailable read model stops no instance from verifying.
   */
  get status(): ProjectorStatus {
    if (this.#state === 'log replaced') {
      const replaced = notOk('The log was restored from an older copy');
      return { verify: replaced, ready: replaced, list: replaced };
    }
    const verify = this.#state === 'following' ? OK : notOk('This instance is still reading the log');
    const synced = this.#writer.firstSyncAttempted ? OK : notOk('The read model is being built');
    const list = this.#writer.isComplete ? OK : notOk('The read model is being restored from the log');
    return { verify, ready: verify.ok ? synced : verify, list };
  }

  /** Age in seconds of the last folded event while the read model does not hold it; 0 once it does. */
  get lag(): number {
    if (this.#caughtUp && this.#writer.isCurrent) return 0;
    return this.#last ? Math.max(0, this.#now().clock - Date.parse(this.#last.recordedAt)) / 1000 : 0;
  }

  /** The repository of a folded event; undefined if it concerns none. */
  repositoryIdOf(event: RecordedEvent): string | undefined {
    const ref = classifyStream(event.stream);
    switch (ref?.kind) {
      case 'api-key':
        return this.apiKeyIndex.entryOf(ref.id)?.key.repoId || undefined;
      case 'webhook':
        return this.webhookIndex.entryOf(ref.id)?.webhook.repoId || undefined;
      case 'audit-access': {
        const { repoId, apiKeyId } = peekEvent(event);
        return repoId ?? (apiKeyId && this.apiKeyIndex.entryOf(apiKeyId)?.key.repoId);
      }
      case undefined:
        return undefined;
    }
  }

  /** Calls back synchronously when an event of a webhook was folded. @returns a function that unsubscribes */
  onWebhookChanged(listener: (webhookId: string) => void): () => void {
    this.#webhookListeners.add(listener);
    return () => this.#webhookListeners.delete(listener);
  }

  /** Writes the whole read model again, after a reader found that it lost data. */
  restoreReadModel(): void {
    this.#writer.restore();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        if (!(await this.#logContinues())) return this.#failLogReplaced();
        for await (const batch of this.#log.subscribe(this.indexProgress.position, signal)) {
          this.#fold(batch);
          failures = 0;
        }
        if (!signal.aborted) throw new Error('The subscription ended');
      } catch (error) {
        this.#caughtUp = false;
        await backOff('The subscription to the log broke', error, failures, this.#logger, signal);
      }
    }
  }

  /** Does the log still hold the last folded event? While it was unavailable, an older copy may have replaced it. */
  async #logContinues(): Promise<boolean> {
    const { checkpoint } = this.#snapshot();
    return checkpoint === undefined || logContains(this.#log, checkpoint);
  }

  #failLogReplaced(): void {
    this.#state = 'log replaced';
    const error = new KeyledgerError('UNAVAILABLE', { message: 'The log was restored from an older copy' });
    this.tail.fail(error);
    this.#onLogReplaced(error);
  }

  #fold(batch: EventBatch): void {
    const { events, foreign = [], position, caughtUp } = batch;
    this.#skipForeign(foreign);
    const repoIds = new Set<string>();
    for (const event of events) {
      const repoId = this.#foldEvent(event);
      if (repoId) repoIds.add(repoId);
      this.#last = event;
    }
    this.#caughtUp = caughtUp;
    if (caughtUp && this.#state === 'folding') this.#state = 'following';
    this.indexProgress.advanceTo(position);
    this.tail.publish(batch, repoIds);
    if (this.#state === 'following') this.#writer.start();
  }

  /** @returns the repository of the event */
  #foldEvent(event: RecordedEvent): string | undefined {
    const ref = classifyStream(event.stream);
    if (ref?.kind === 'api-key') this.#writer.add(toListItem(this.apiKeyIndex.apply(event)));
    else if (ref?.kind === 'webhook') this.webhookIndex.apply(event);
    const repoId = this.repositoryIdOf(event);
    this.eventIndex.add(event, repoId);
    if (ref?.kind === 'webhook') for (const notify of this.#webhookListeners) notify(ref.id);
    return repoId;
  }

  #snapshot(): FoldSnapshot {
    const last = this.#last;
    return {
      position: this.indexProgress.position,
      checkpoint: last && { position: last.position, eventId: last.id },
      items: () => [...this.apiKeyIndex.entries()].map(toListItem),
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
        void confirm(this.readModelProgress, end);
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
    if (this.#foreignEvents === 0) {
      const { stream, type, position } = first;
      this.#logger.warn({ stream, type, position }, FOREIGN_EVENTS);
    }
    this.#foreignEvents += foreign.length;
  }
}
