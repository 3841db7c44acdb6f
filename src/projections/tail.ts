import type { KeyledgerError } from '../domain/errors.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { resumeTokenOf } from '../event-store/resume-token.js';

/** Events in memory for readers near the end of the log, and characters of JSON; other readers read from the log. */
const MAX_RECENT_EVENTS = 1000;
const MAX_RECENT_LENGTH = 8 * 1024 * 1024;
const LOG_BATCH_SIZE = 250;
/** Waiting readers wake at this interval even without events. */
const WAKE_INTERVAL_MS = 1000;

export type TailFilter = {
  /** Where a reader may continue without reading events that are not for it; undefined if it should read on. */
  readonly skipTo: (after: Position | undefined) => Position | undefined;
  /** Events of other repositories do not wake the reader. */
  readonly canSee: (repoId: string) => boolean;
};

type TailReader = {
  /** No event up to here is left to read. */
  position: Position | undefined;
  readonly filter: TailFilter | undefined;
  wake: () => void;
};

/**
 * The last folded events in memory, for any number of readers; a reader further back reads the log. It queues nothing
 * for a reader, which pulls the next batch when it can, and no reader is ahead of the projections.
 */
export class Tail {
  readonly #log: EventStore;
  /** Oldest first. */
  #recent: EventBatch[] = [];
  #recentEvents = 0;
  #recentLength = 0;
  /** The recent batches hold every event after this; undefined: from the log's first event on. */
  #recentFrom: Position | undefined;
  #end: Position | undefined;
  #caughtUp = false;
  readonly #waiting = new Set<TailReader>();
  #ticking: NodeJS.Timeout | undefined;
  #failure: KeyledgerError | undefined;

  constructor(log: EventStore) {
    this.#log = log;
  }

  /** Number of readers that wait for events. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * The projections hold the log up to a position: from here on every event is published. If that is beyond the end of the
   * tail, because they were built elsewhere, readers read from the log what was never published.
   */
  startAt(position: Position): void {
    if (this.#end !== undefined && position <= this.#end) return;
    this.#recent = [];
    [this.#recentEvents, this.#recentLength] = [0, 0];
    [this.#end, this.#recentFrom] = [position, position];
    this.#wakeAll();
  }

  /**
   * Passes on a batch that has just been folded. Ignores one that was passed on before, as after the projections were
   * built anew.
   * @param repoIds the repositories of its events
   */
  publish(batch: EventBatch, repoIds: ReadonlySet<string>): void {
    const end = this.#end;
    if (end !== undefined && batch.position < end) return;
    const events = end === undefined ? batch.events : batch.events.filter(({ position }) => position > end);
    this.#end = batch.position;
    this.#caughtUp = batch.caughtUp;
    if (events.length > 0) this.#recent.push({ ...batch, events });
    this.#recentEvents += events.length;
    this.#recentLength += lengthOf(events);
    while (
      (this.#recentEvents > MAX_RECENT_EVENTS || this.#recentLength > MAX_RECENT_LENGTH) &&
      this.#recent.length > 1
    ) {
      const oldest = this.#recent.shift() as EventBatch;
      this.#recentEvents -= oldest.events.length;
      this.#recentLength -= lengthOf(oldest.events);
      this.#recentFrom = oldest.position;
    }
    const concerned = [...this.#waiting].filter((reader) => {
      if (!reader.filter || canSeeAny(reader.filter, repoIds)) return true;
      if (reader.position === undefined || batch.position > reader.position) reader.position = batch.position;
      return false;
    });
    for (const { wake } of concerned) wake();
  }

  /** Ends all readers with an error: nothing will be folded any more. */
  fail(error: KeyledgerError): void {
    this.#failure = error;
    this.#wakeAll();
  }

  /**
   * The last event up to a position that a reader has reached; undefined if the recent batches hold none and the log
   * has none at exactly this position, as before its first event.
   * @throws KeyledgerError UNAVAILABLE
   */
  async lastEventUpTo(position: Position): Promise<RecordedEvent | undefined> {
    for (let batch = this.#recent.length - 1; batch >= 0; batch--) {
      const event = this.#recent[batch]?.events.findLast((recent) => recent.position <= position);
      if (event) return event;
    }
    return this.#log.eventAt(position);
  }

  /**
   * The resume token of a reader at a position: that of its last event, or else the bare position.
   * @throws KeyledgerError UNAVAILABLE
   */
  async resumeTokenAt(position: Position): Promise<string> {
    const event = await this.lastEventUpTo(position);
    return event ? resumeTokenOf(event) : position;
  }

  /**
   * Yields every event after a position (without one, from the first on), in log order, without end. While there is
   * none, it yields an empty batch about every second.
   * @throws KeyledgerError OTHER_LOG, UNAVAILABLE (also after `fail`)
   */
  async *read(after: Position | undefined, signal: AbortSignal, filter?: TailFilter): AsyncGenerator<EventBatch> {
    const reader: TailReader = { position: after, filter, wake: () => undefined };
    const stop = () => reader.wake();
    signal.addEventListener('abort', stop);
    try {
      while (!signal.aborted) {
        if (this.#failure) throw this.#failure;
        const { position } = reader;
        const end = this.#end;
        if (!this.#isRecent(position)) {
          for await (const batch of this.#fromLog(position, filter)) {
            reader.position = batch.position;
            yield batch;
            if (signal.aborted || this.#isRecent(batch.position)) break;
          }
        } else if (end === undefined || (position !== undefined && position >= end)) {
          if (position !== undefined) yield { events: [], position, caughtUp: this.#caughtUp };
          // Waits, unless a batch arrived while the reader handled the empty one.
          if (this.#end === end && !this.#failure && !signal.aborted) await this.#waitForEvents(reader);
        } else {
          reader.position = end;
          yield { events: this.#recentAfter(position), position: end, caughtUp: this.#caughtUp };
        }
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #isRecent(position: Position | undefined): boolean {
    return this.#recentFrom === undefined || (position !== undefined && position >= this.#recentFrom);
  }

  #recentAfter(position: Position | undefined): readonly RecordedEvent[] {
    if (position === undefined) return this.#recent.flatMap(({ events }) => events);
    let first = this.#recent.length;
    while (first > 0 && (this.#recent[first - 1] as EventBatch).position > position) first--;
    const batches = this.#recent.slice(first);
    const [oldest] = batches;
    const [firstEvent] = oldest?.events ?? [];
    if (batches.length === 1 && oldest && firstEvent && firstEvent.position > position) return oldest.events;
    return batches.flatMap(({ events }) => events).filter((event) => event.position > position);
  }

  /** Reads the log up to the current end of the tail, or to where the filter skips events. */
  async *#fromLog(after: Position | undefined, filter: TailFilter | undefined): AsyncGenerator<EventBatch> {
    const end = this.#end as Position;
    const jump = filter?.skipTo(after);
    if (jump !== undefined) {
      yield { events: [], position: jump, caughtUp: false };
      return;
    }
    let events: RecordedEvent[] = [];
    for await (const event of this.#log.readAll(after)) {
      if (event.position > end) break;
      events.push(event);
      if (events.length < LOG_BATCH_SIZE) continue;
      yield { events, position: event.position, caughtUp: false };
      events = [];
      if (filter?.skipTo(event.position) !== undefined) return;
    }
    yield { events, position: end, caughtUp: false };
  }

  #waitForEvents(reader: TailReader): Promise<void> {
    this.#ticking ??= setInterval(() => this.#wakeAll(), WAKE_INTERVAL_MS).unref();
    return new Promise((resolve) => {
      reader.wake = () => {
        this.#waiting.delete(reader);
        resolve();
      };
      this.#waiting.add(reader);
    });
  }

  #wakeAll(): void {
    if (this.#waiting.size === 0) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }
    for (const { wake } of this.#waiting) wake();
  }
}

const lengthOf = (events: readonly RecordedEvent[]): number =>
  events.reduce((length, { data }) => length + JSON.stringify(data).length, 0);

function canSeeAny({ canSee }: TailFilter, repoIds: ReadonlySet<string>): boolean {
  for (const repoId of repoIds) if (canSee(repoId)) return true;
  return false;
}
