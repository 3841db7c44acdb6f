import { setTimeout } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { apiKeyIdOf, isApiKeyStream } from '../domain/ai-api-key.js';
import { isAuditAccessStream } from '../domain/audit-access.js';
import { KeyledgerError } from '../domain/errors.js';
import { webhookIdOf } from '../domain/webhook.js';
import { peekEvent } from '../event-store/codec.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { ApiKeyIndex } from './api-key-index.js';
import { EventIndex } from './event-index.js';
import { type ListItem, toListItem } from './list-item.js';
import { type ClockReading, ProjectionProgress } from './projection-progress.js';
import { heldBy, type ReadModel, ReadModelLost } from './read-model.js';
import { Tail } from './tail.js';
import { WebhookIndex } from './webhook-index.js';

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 5000;
const ASK_FOR_END_MS = 1000;
const FOREIGN =
  'The server holds events of others in streams whose names begin as those of Keyledger: they are skipped. keyledger audit verify names them all; EVENT_STORE_PREFIX keeps services apart';

/**
 * The one loop from the log to what is read. It folds each page of events into the verify index, and
 * hands the documents that changed to the read model, which may be slower or gone without holding
 * the index up: what waits for it is one document a key.
 */
export class Projector {
  readonly apiKeyIndex = new ApiKeyIndex();
  readonly webhookIndex = new WebhookIndex();
  readonly eventIndex = new EventIndex();
  readonly tail: Tail;
  /** How far the log has been folded into the index, and brought into the read model. */
  readonly indexProgress: ProjectionProgress;
  readonly readModelProgress: ProjectionProgress;
  readonly #log: EventStore;
  readonly #readModel: ReadModel;
  readonly #logger: BaseLogger;
  readonly #now: () => ClockReading;
  readonly #logFailed: (error: Error) => void;
  readonly #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  #last: RecordedEvent | undefined;
  #caughtUp = false;
  #wasCaughtUp = false;
  #halted: string | undefined;
  #foreignEvents = 0;

  /** What changed since the read model was last written to, one document a key. */
  #pending = new Map<string, ListItem>();
  /** Does the read model hold everything but what is pending? */
  #whole = false;
  #writing: Promise<void> = Promise.resolve();
  #writes = false;
  /** Has it been brought into the read model once, or has that failed? */
  #hasTried = false;

  /**
   * @param clock milliseconds since 1970
   * @param logFailed told if the log is not the one any more that was folded: only a new process can begin anew
   */
  constructor(
    log: EventStore,
    readModel: ReadModel,
    logger: BaseLogger,
    clock: () => number,
    logFailed: (error: Error) => void,
  ) {
    this.#log = log;
    this.tail = new Tail(log);
    this.#readModel = readModel;
    this.#logger = logger;
    this.#now = () => ({ clock: clock(), steady: performance.now() });
    this.#logFailed = logFailed;
    this.indexProgress = new ProjectionProgress(this.#now);
    this.readModelProgress = new ProjectionProgress(this.#now);
  }

  start(): void {
    this.#running = Promise.all([this.#follow(), this.#askForEnd()]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.indexProgress.stop();
    this.readModelProgress.stop();
    await this.#running;
    await this.#writing;
  }

  /** Number of skipped events that no release of ours can have written. */
  get foreignEvents(): number {
    return this.#foreignEvents;
  }

  /** Why no key can be verified, or undefined if they can: the index is behind or has stopped. */
  get unverifiableBecause(): string | undefined {
    if (this.#halted) return this.#halted;
    return this.#wasCaughtUp ? undefined : 'The log is being folded';
  }

  /**
   * Why no traffic should be sent here, or undefined if it may. A new version of the read model is built before the
   * instances of the old one are replaced; one that is out of reach keeps nobody from verifying.
   */
  get unreadyBecause(): string | undefined {
    return this.unverifiableBecause ?? (this.#hasTried ? undefined : 'The read model is being built');
  }

  /** Why lists cannot be read, or undefined if they can. */
  get unlistableBecause(): string | undefined {
    if (this.#halted) return this.#halted;
    return this.#whole ? undefined : 'The read model is being restored from the log';
  }

  /** Age in seconds of the last event seen while it or later ones are not yet in the read model; 0 when they are. */
  get lag(): number {
    if (this.#caughtUp && this.#isWritten()) return 0;
    return this.#last ? Math.max(0, this.#now().clock - Date.parse(this.#last.recordedAt)) / 1000 : 0;
  }

  /** The repository that an event, which has been folded, is about; undefined if it is about none. */
  repositoryIdOf(event: RecordedEvent): string | undefined {
    const ofKey = apiKeyIdOf(event.stream);
    if (ofKey !== undefined) return this.apiKeyIndex.entryOf(ofKey)?.key.repoId || undefined;
    const ofWebhook = webhookIdOf(event.stream);
    if (ofWebhook !== undefined) return this.webhookIndex.entryOf(ofWebhook)?.webhook.repoId || undefined;
    if (!isAuditAccessStream(event.stream)) return undefined;
    const { repoId, apiKeyId } = peekEvent(event);
    return repoId ?? (apiKeyId && this.apiKeyIndex.entryOf(apiKeyId)?.key.repoId);
  }

  /** Brings everything into the read model anew: somebody found that it has lost what it held. */
  restore(): void {
    if (this.#whole) this.#logger.warn('The read model has lost what it held; it is restored');
    this.#whole = false;
    this.#startWriting();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted && !this.#halted; failures++) {
      try {
        if (!(await this.#isContinued())) return this.#lose();
        for await (const page of this.#log.subscribe(this.indexProgress.position, signal)) {
          await this.#take(page);
          failures = 0;
        }
        if (!signal.aborted) throw new Error('The subscription ended');
      } catch (error) {
        this.#caughtUp = false;
        await this.#backOff('The subscription to the log broke', error, failures);
      }
    }
  }

  /** Does the log still hold what was folded of it? While it was out of reach an older copy may have taken its place. */
  async #isContinued(): Promise<boolean> {
    const last = this.#last;
    return !last || (await heldBy(this.#log)({ position: last.position, eventId: last.id }));
  }

  #lose(): void {
    this.#halted = 'The log was restored from an older copy';
    const error = new KeyledgerError('UNAVAILABLE', { message: this.#halted });
    this.tail.break(error);
    this.#logFailed(error);
  }

  async #take(page: EventBatch): Promise<void> {
    const { events, foreign = [], position, caughtUp } = page;
    this.#skipForeign(foreign);
    const repoIds = new Set<string>();
    for (const event of events) {
      let repoId: string | undefined;
      if (isApiKeyStream(event.stream)) {
        const entry = this.apiKeyIndex.apply(event);
        if (this.#whole || this.#writes) this.#pending.set(entry.key.apiKeyId, toListItem(entry));
        repoId = entry.key.repoId;
        this.eventIndex.add(event, repoId);
      } else if (this.webhookIndex.apply(event) || isAuditAccessStream(event.stream)) {
        repoId = this.repositoryIdOf(event);
        this.eventIndex.add(event, repoId);
      }
      if (repoId) repoIds.add(repoId);
      this.#last = event;
    }
    this.#caughtUp = caughtUp;
    this.#wasCaughtUp ||= caughtUp;
    this.indexProgress.advanceTo(position);
    this.tail.take(page, repoIds);
    this.#startWriting();
  }

  #startWriting(): void {
    if (!this.#writes && this.#wasCaughtUp) this.#writing = this.#write();
  }

  /** Brings what is pending into the read model, or everything if it is not whole. */
  async #write(): Promise<void> {
    this.#writes = true;
    for (let failures = 0; !this.#stop.signal.aborted && !this.#isWritten(); ) {
      const reached = this.indexProgress.position;
      const last = this.#last;
      const checkpoint = last && { position: last.position, eventId: last.id };
      const batch = this.#pending;
      this.#pending = new Map();
      try {
        if (!this.#whole) {
          const items = [...this.apiKeyIndex.entries()].map(toListItem);
          await this.#readModel.restore(items, checkpoint, heldBy(this.#log));
          this.#whole = true;
          this.#hasTried = true;
        } else if (checkpoint && batch.size > 0) {
          await this.#readModel.apply([...batch.values()], checkpoint);
        }
        this.readModelProgress.advanceTo(reached);
        failures = 0;
      } catch (error) {
        this.#hasTried = true;
        this.#pending = new Map([...batch, ...this.#pending]);
        if (error instanceof ReadModelLost) this.restore();
        await this.#backOff('The read model takes nothing', error, failures++);
      }
    }
    this.#writes = false;
  }

  #isWritten(): boolean {
    return this.#whole && this.indexProgress.position === this.readModelProgress.position;
  }

  /** Hearing nothing does not tell a quiet log from one out of reach: ask. */
  async #askForEnd(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const asked = this.#now();
      const noteFresh = async (progress: ProjectionProgress, end: Position) => {
        if (await progress.waitFor(end)) progress.confirmCurrentAt(asked);
      };
      try {
        const end = await this.#log.end();
        void noteFresh(this.readModelProgress, end);
        await noteFresh(this.indexProgress, end);
      } catch (error) {
        this.#logger.debug({ err: error }, 'The log does not say where it ends');
      }
      await setTimeout(ASK_FOR_END_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** What no release of ours can have written concerns no key: it must not stop what does. */
  #skipForeign(foreign: readonly RecordedEvent[]): void {
    const [first] = foreign;
    if (!first) return;
    if (this.#foreignEvents === 0) {
      const { stream, type, position } = first;
      this.#logger.warn({ stream, type, position }, FOREIGN);
    }
    this.#foreignEvents += foreign.length;
  }

  async #backOff(what: string, error: unknown, failures: number): Promise<void> {
    const delay = Math.min(FIRST_DELAY_MS * 2 ** failures, LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
    const { expected, message } = error as { expected?: boolean; message?: string };
    if (expected) this.#logger.debug({ err: { message }, delay }, `${what}; trying again`);
    else this.#logger.warn({ err: error, delay }, `${what}; trying again`);
    await setTimeout(delay, undefined, { signal: this.#stop.signal }).catch(() => undefined);
  }
}
