import type { KeyledgerError } from '../domain/errors.js';
import type { EventBatch, EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { resumeTokenOf } from '../event-store/resume-token.js';

/** Kept in memory for those who follow closely; who is further behind reads from the log. */
const MAX_RECENT_EVENTS = 1000;
/** Events of a page that is read from the log. */
const LOG_BATCH_SIZE = 250;
/** Whoever waits for news is woken so often all the same (milliseconds). */
const WAKE_INTERVAL_MS = 1000;

export type TailFilter = {
  /** Where a reader may go on, if nothing before that is for it and reading it would be a waste. */
  readonly skipTo: (after: Position | undefined) => Position | undefined;
  /** What happens in other repositories is no news to it. */
  readonly sees: (repoId: string) => boolean;
};

/** A reader that has all there is. */
type TailReader = {
  /** There was nothing for it up to here. */
  position: Position | undefined;
  readonly filter: TailFilter | undefined;
  wake: () => void;
};

/**
 * What the projector has folded, for any number of readers: the one tail of the log that an instance has.
 * Nothing is kept for a reader, who takes what is next when it can; and none is ahead of the
 * projections.
 */
export class Tail {
  readonly #log: EventStore;
  /** Oldest first. */
  #recent: EventBatch[] = [];
  #recentEvents = 0;
  /** Everything behind this is in the recent pages; undefined: from the log's first event on. */
  #recentFrom: Position | undefined;
  #end: Position | undefined;
  #caughtUp = false;
  readonly #waiting = new Set<TailReader>();
  #ticking: NodeJS.Timeout | undefined;
  #broken: KeyledgerError | undefined;

  constructor(log: EventStore) {
    this.#log = log;
  }

  /** How many wait for news. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * A page that has just been folded.
   * @param repoIds the repositories that its events are about
   */
  take(batch: EventBatch, repoIds: ReadonlySet<string>): void {
    this.#end = batch.position;
    this.#caughtUp = batch.caughtUp;
    if (batch.events.length > 0) this.#recent.push(batch);
    this.#recentEvents += batch.events.length;
    while (this.#recentEvents > MAX_RECENT_EVENTS && this.#recent.length > 1) {
      const oldest = this.#recent.shift() as EventBatch;
      this.#recentEvents -= oldest.events.length;
      this.#recentFrom = oldest.position;
    }
    const concerned = [...this.#waiting].filter((reader) => {
      if (!reader.filter || some(repoIds, reader.filter.sees)) return true;
      if (reader.position === undefined || batch.position > reader.position) reader.position = batch.position;
      return false;
    });
    for (const { wake } of concerned) wake();
  }

  /** Nothing will be folded any more: that ends whoever reads. */
  break(because: KeyledgerError): void {
    this.#broken = because;
    this.#wakeAll();
  }

  /**
   * The last event up to a position that a reader has come to; undefined before the log's first event, and where
   * the log has none at the position and the tail none any more.
   * @throws KeyledgerError UNAVAILABLE
   */
  async lastEventAt(position: Position): Promise<RecordedEvent | undefined> {
    for (let batch = this.#recent.length - 1; batch >= 0; batch--) {
      const event = this.#recent[batch]?.events.findLast((recent) => recent.position <= position);
      if (event) return event;
    }
    return this.#log.eventAt(position);
  }

  /**
   * What a reader goes on with that has come to a position: the bookmark of the last event, or the bare position.
   * @throws KeyledgerError UNAVAILABLE
   */
  async resumeTokenAt(position: Position): Promise<string> {
    const event = await this.lastEventAt(position);
    return event ? resumeTokenOf(event) : position;
  }

  /**
   * Every event after a position (from the first without one), in log order, without end. While there is none a page
   * without events comes about every second.
   * @throws KeyledgerError OTHER_LOG, UNAVAILABLE (also when nothing is folded any more)
   */
  async *read(
    after: Position | undefined,
    signal: AbortSignal,
    filter?: TailFilter,
  ): AsyncGenerator<EventBatch> {
    const reader: TailReader = { position: after, filter, wake: () => undefined };
    const stop = () => reader.wake();
    signal.addEventListener('abort', stop);
    try {
      while (!signal.aborted) {
        if (this.#broken) throw this.#broken;
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
          // Unless something came while the reader was busy with that.
          if (this.#end === end && !this.#broken && !signal.aborted) await this.#waitForEvents(reader);
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
    const [one] = batches;
    const [firstEvent] = one?.events ?? [];
    if (batches.length === 1 && one && firstEvent && firstEvent.position > position) return one.events;
    return batches.flatMap(({ events }) => events).filter((event) => event.position > position);
  }

  /** A stretch of the log: up to where the tail is now, or to where much can be passed over. */
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

function some(repoIds: ReadonlySet<string>, sees: (repoId: string) => boolean): boolean {
  for (const repoId of repoIds) if (sees(repoId)) return true;
  return false;
}
