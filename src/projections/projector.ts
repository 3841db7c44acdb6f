import { setTimeout } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { isApiKeyStream } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import { UnattributableError } from '../event-store/codec.js';
import type { EventStore, Page, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { type ListItem, listItem } from './list.js';
import type { Checkpoint, ReadModel } from './read-model.js';
import { VerifyIndex } from './verify-index.js';

/** How long a read waits for the position that it asks for, and a mutation for its own projection. */
export const PATIENCE_MS = 1000;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 5000;

/**
 * The one loop from the log to what is read. It folds each page of events into the verify index, and
 * hands the documents that changed to the read model, which may be slower or gone without holding
 * the index up: what waits for it is one document a key.
 */
export class Projector {
  readonly #log: EventStore;
  readonly #readModel: ReadModel;
  readonly #logger: BaseLogger;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #index = new VerifyIndex();
  /** Where the read model stands according to itself, until the log has been folded up to there. */
  #resumed: Checkpoint | undefined;
  #indexed: RecordedEvent | undefined;
  #pending = new Map<string, ListItem>();
  #written: Position | undefined;
  #writing: Promise<void> = Promise.resolve();
  #writes = false;
  #running: Promise<void> = Promise.resolve();
  #caughtUp = false;
  #halted: string | undefined;

  constructor(log: EventStore, readModel: ReadModel, logger: BaseLogger) {
    this.#log = log;
    this.#readModel = readModel;
    this.#logger = logger;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    for (const waiter of this.#waiting) waiter.resolve(false);
    await this.#running;
    await this.#writing;
  }

  get index(): VerifyIndex {
    return this.#index;
  }

  /** Why reads cannot be served, or undefined if they can. */
  get unreadyBecause(): string | undefined {
    if (this.#halted) return this.#halted;
    return this.#caughtUp && this.#written !== undefined
      ? undefined
      : 'The read model is being built from the log';
  }

  /** Position of the last event that is in index and read model. */
  get position(): Position | undefined {
    return this.#written;
  }

  /** Age in seconds of the last event seen while there are later ones to come; 0 when caught up. */
  lag(now: number): number {
    if (this.#caughtUp && this.#pending.size === 0) return 0;
    return this.#indexed ? Math.max(0, now - Date.parse(this.#indexed.recordedAt)) / 1000 : 0;
  }

  /** Waits until index and read model hold the event at a position. @returns false if they do not in time */
  waitFor(position: Position): Promise<boolean> {
    if (this.#written !== undefined && this.#written >= position) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter = {
        position,
        resolve: (reached: boolean) => {
          clearTimeout(timer);
          this.#waiting.delete(waiter);
          resolve(reached);
        },
      };
      const timer = globalThis.setTimeout(() => waiter.resolve(false), PATIENCE_MS);
      this.#waiting.add(waiter);
    });
  }

  /**
   * Resolves when a read may be served, at or after a position if one is asked for.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async readable(atLeast: Position | undefined): Promise<void> {
    const reached = atLeast === undefined || (await this.waitFor(atLeast));
    if (this.unreadyBecause) throw new KeyledgerError('UNAVAILABLE', { message: this.unreadyBecause });
    if (!reached) throw new KeyledgerError('BEHIND');
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted && !this.#halted; failures++) {
      try {
        if (!this.#indexed) this.#resumed = await this.#readModel.checkpoint();
        for await (const page of this.#log.subscribe(this.#indexed?.position, signal)) {
          await this.#take(page);
          failures = 0;
        }
      } catch (error) {
        this.#caughtUp = false;
        if (error instanceof UnattributableError) this.#halt(error);
        else await this.#backOff('The subscription to the log broke', error, failures);
      }
    }
  }

  async #take({ events, caughtUp }: Page): Promise<void> {
    for (const event of events) {
      const entry = isApiKeyStream(event.stream) ? this.#index.apply(event) : undefined;
      if (this.#resumed) await this.#verifyResumption(event, this.#resumed);
      else if (entry) this.#pending.set(entry.key.apiKeyId, listItem(entry));
      this.#indexed = event;
    }
    if (caughtUp && this.#resumed) await this.#rebuild();
    this.#caughtUp = caughtUp;
    if (caughtUp && !this.#indexed) this.#written = await this.#log.end();
    if (!this.#writes) this.#writing = this.#write();
    this.#wake();
  }

  /** A read model that has been here before goes on behind its last event, if the log has that event there. */
  async #verifyResumption(event: RecordedEvent, resumed: Checkpoint): Promise<void> {
    if (event.position < resumed.position) return;
    if (event.position !== resumed.position || event.id !== resumed.eventId) await this.#rebuild();
    this.#written = event.position;
    this.#resumed = undefined;
  }

  /** The read model holds an event that the log does not: another log, or this one restored. */
  async #rebuild(): Promise<never> {
    this.#logger.warn('The read model is not of this log; it is rebuilt');
    await this.#readModel.clear();
    this.#index = new VerifyIndex();
    this.#indexed = undefined;
    this.#written = undefined;
    throw new Error('started again from the beginning of the log');
  }

  /** Brings what is pending into the read model, for as long as there is something and it takes. */
  async #write(): Promise<void> {
    this.#writes = true;
    for (let failures = 0; this.#indexed && !this.#resumed && this.#indexed.position !== this.#written; ) {
      const { position, id } = this.#indexed;
      const batch = this.#pending;
      this.#pending = new Map();
      try {
        await this.#readModel.apply([...batch.values()], { position, eventId: id });
        this.#written = position;
        failures = 0;
        this.#wake();
      } catch (error) {
        this.#pending = new Map([...batch, ...this.#pending]);
        if (this.#stop.signal.aborted) break;
        await this.#backOff('The read model takes nothing', error, failures++);
      }
    }
    this.#writes = false;
  }

  #wake(): void {
    for (const waiter of this.#waiting) {
      if (this.#written !== undefined && waiter.position <= this.#written) waiter.resolve(true);
    }
  }

  #halt(error: Error): void {
    this.#halted = `The projector has stopped: ${error.message}`;
    this.#logger.fatal({ err: error }, 'The projector has stopped');
  }

  async #backOff(what: string, error: unknown, failures: number): Promise<void> {
    const delay = Math.min(FIRST_DELAY_MS * 2 ** failures, LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
    this.#logger.warn({ err: error, delay }, `${what}; trying again`);
    await setTimeout(delay, undefined, { signal: this.#stop.signal }).catch(() => undefined);
  }
}
