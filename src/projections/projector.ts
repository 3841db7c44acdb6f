import { setTimeout } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { isApiKeyStream } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import { UnattributableError } from '../event-store/codec.js';
import type { EventStore, Page, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { type ListItem, listItem } from './list.js';
import { type ReadModel, ReadModelLost } from './read-model.js';
import { VerifyIndex } from './verify-index.js';

/** How long a read waits for the position that it asks for, and a mutation for its own projection. */
export const PATIENCE_MS = 1000;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 5000;
const ASK_FOR_END_MS = 1000;

/**
 * The one loop from the log to what is read. It folds each page of events into the verify index, and
 * hands the documents that changed to the read model, which may be slower or gone without holding
 * the index up: what waits for it is one document a key.
 */
export class Projector {
  readonly index = new VerifyIndex();
  readonly #log: EventStore;
  readonly #readModel: ReadModel;
  readonly #logger: BaseLogger;
  readonly #clock: () => number;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #running: Promise<unknown> = Promise.resolve();

  /** The last event in the index, and how far the log has been read. */
  #indexed: RecordedEvent | undefined;
  #reached: Position | undefined;
  #caughtUp = false;
  #wasCaughtUp = false;
  #halted: string | undefined;
  /** When the log is known to have held nothing more than index and read model do. */
  #freshAt: number;

  /** What changed since the read model was last written to, one document a key. */
  #pending = new Map<string, ListItem>();
  /** Does the read model hold everything but what is pending? */
  #whole = false;
  #written: Position | undefined;
  #writing: Promise<void> = Promise.resolve();
  #writes = false;

  /** @param clock milliseconds since 1970 */
  constructor(log: EventStore, readModel: ReadModel, logger: BaseLogger, clock: () => number) {
    this.#log = log;
    this.#readModel = readModel;
    this.#logger = logger;
    this.#clock = clock;
    this.#freshAt = clock();
  }

  start(): void {
    this.#running = Promise.all([this.#follow(), this.#askForEnd()]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    for (const waiter of this.#waiting) waiter.resolve(false);
    await this.#running;
    await this.#writing;
  }

  /** Why no traffic should be sent here, or undefined if it may: the index is behind or has stopped. */
  get unreadyBecause(): string | undefined {
    if (this.#halted) return this.#halted;
    return this.#wasCaughtUp ? undefined : 'The log is being folded';
  }

  /** How far the log has been brought into index and read model. */
  get position(): Position | undefined {
    return this.#written;
  }

  /** Age in seconds of the last event seen while it or later ones are not yet in the read model; 0 when they are. */
  get lag(): number {
    if (this.#caughtUp && this.#isWritten()) return 0;
    return this.#indexed ? Math.max(0, this.#clock() - Date.parse(this.#indexed.recordedAt)) / 1000 : 0;
  }

  /** For how many seconds it has not been known that what is read here is all that the log holds. */
  get staleness(): number {
    return Math.max(0, this.#clock() - this.#freshAt) / 1000;
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
   * The keys of a repository that are not deleted, newest first, at or after a position if one is asked for.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async list(repoId: string, atLeast: Position | undefined): Promise<ListItem[]> {
    const reached = atLeast === undefined || (await this.waitFor(atLeast));
    if (this.#halted) throw new KeyledgerError('UNAVAILABLE', { message: this.#halted });
    if (!this.#whole) {
      throw new KeyledgerError('UNAVAILABLE', { message: 'The read model is being restored from the log' });
    }
    if (!reached) throw new KeyledgerError('BEHIND');
    try {
      return await this.#readModel.list(repoId);
    } catch (cause) {
      if (cause instanceof ReadModelLost) this.#restore();
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted && !this.#halted; failures++) {
      try {
        for await (const page of this.#log.subscribe(this.#reached, signal)) {
          await this.#take(page);
          failures = 0;
        }
        if (!signal.aborted) throw new Error('The subscription ended');
      } catch (error) {
        this.#caughtUp = false;
        if (error instanceof UnattributableError) this.#halt(error);
        else await this.#backOff('The subscription to the log broke', error, failures);
      }
    }
  }

  async #take({ events, position, caughtUp }: Page): Promise<void> {
    for (const event of events) {
      if (isApiKeyStream(event.stream)) {
        const entry = this.index.apply(event);
        if (this.#whole || this.#writes) this.#pending.set(entry.key.apiKeyId, listItem(entry));
      }
      this.#indexed = event;
      this.#reached = event.position;
    }
    this.#reached = position;
    this.#caughtUp = caughtUp;
    this.#wasCaughtUp ||= caughtUp;
    this.#startWriting();
  }

  #startWriting(): void {
    if (!this.#writes && this.#wasCaughtUp) this.#writing = this.#write();
  }

  #restore(): void {
    if (this.#whole) this.#logger.warn('The read model has lost what it held; it is restored');
    this.#whole = false;
    this.#startWriting();
  }

  /** Brings what is pending into the read model, or everything if it is not whole. */
  async #write(): Promise<void> {
    this.#writes = true;
    for (let failures = 0; !this.#stop.signal.aborted && !this.#isWritten(); ) {
      const reached = this.#reached;
      const last = this.#indexed;
      const checkpoint = last && { position: last.position, eventId: last.id };
      const batch = this.#pending;
      this.#pending = new Map();
      try {
        if (!this.#whole) {
          const items = [...this.index.entries()].map(listItem);
          await this.#readModel.restore(items, checkpoint, (one) =>
            this.#log.holds(one.position, one.eventId),
          );
          this.#whole = true;
        } else if (checkpoint && batch.size > 0) {
          await this.#readModel.apply([...batch.values()], checkpoint);
        }
        this.#written = reached;
        failures = 0;
        this.#wake();
      } catch (error) {
        this.#pending = new Map([...batch, ...this.#pending]);
        if (error instanceof ReadModelLost) this.#restore();
        await this.#backOff('The read model takes nothing', error, failures++);
      }
    }
    this.#writes = false;
  }

  #isWritten(): boolean {
    return this.#whole && this.#reached === this.#written;
  }

  #wake(): void {
    for (const waiter of this.#waiting) {
      if (this.#written !== undefined && waiter.position <= this.#written) waiter.resolve(true);
    }
  }

  /** Hearing nothing does not tell a quiet log from one out of reach: ask. */
  async #askForEnd(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const asked = this.#clock();
      try {
        const end = await this.#log.end();
        if (await this.waitFor(end)) this.#freshAt = asked;
      } catch (error) {
        this.#logger.debug({ err: error }, 'The log does not say where it ends');
      }
      await setTimeout(ASK_FOR_END_MS, undefined, { signal }).catch(() => undefined);
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
