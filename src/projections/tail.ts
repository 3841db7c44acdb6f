import type { KeyledgerError } from '../domain/errors.js';
import { bookmarkOf } from '../event-store/bookmark.js';
import type { EventStore, Page, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

/** Kept in memory for those who follow closely; who is further behind reads from the log. */
const RECENT_EVENTS = 1000;
/** Events of a page that is read from the log. */
const PAGE = 250;
/** Whoever waits for news is woken so often all the same (milliseconds). */
const TICK_MS = 1000;

/** Where a reader may go on, if nothing before that is for it and reading it would be a waste. */
export type PassOver = (after: Position | undefined) => Position | undefined;

/**
 * What the projector has folded, for any number of readers: the one tail of the log that an instance has.
 * Nothing is kept for a reader, who takes what is next when it can; and none is ahead of the
 * projections.
 */
export class Tail {
  readonly #log: EventStore;
  /** Oldest first. */
  #recent: Page[] = [];
  #recentEvents = 0;
  /** Everything behind this is in the recent pages; undefined: from the log's first event on. */
  #recentFrom: Position | undefined;
  #end: Position | undefined;
  #caughtUp = false;
  readonly #waiting = new Set<() => void>();
  #ticking: NodeJS.Timeout | undefined;
  #broken: KeyledgerError | undefined;

  constructor(log: EventStore) {
    this.#log = log;
  }

  /** How many wait for news. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** A page that has just been folded. */
  take(page: Page): void {
    this.#end = page.position;
    this.#caughtUp = page.caughtUp;
    if (page.events.length > 0) this.#recent.push(page);
    this.#recentEvents += page.events.length;
    while (this.#recentEvents > RECENT_EVENTS && this.#recent.length > 1) {
      const oldest = this.#recent.shift() as Page;
      this.#recentEvents -= oldest.events.length;
      this.#recentFrom = oldest.position;
    }
    this.#wake();
  }

  /** Nothing will be folded any more: that ends whoever reads. */
  break(because: KeyledgerError): void {
    this.#broken = because;
    this.#wake();
  }

  /**
   * Bookmark of the last event up to a position that a reader has come to. Only before the log's first event, and where
   * the log has none at the position and the tail none any more, it is the bare position.
   * @throws KeyledgerError UNAVAILABLE
   */
  async bookmarkAt(position: Position): Promise<string> {
    for (let page = this.#recent.length - 1; page >= 0; page--) {
      const event = this.#recent[page]?.events.findLast((recent) => recent.position <= position);
      if (event) return bookmarkOf(event);
    }
    const event = await this.#log.eventAt(position);
    return event ? bookmarkOf(event) : position;
  }

  /**
   * Every event after a position (from the first without one), in log order, without end. While there is none a page
   * without events comes about every second.
   * @throws KeyledgerError OTHER_LOG, UNAVAILABLE (also when nothing is folded any more)
   */
  async *read(
    after: Position | undefined,
    signal: AbortSignal,
    passOver: PassOver = () => undefined,
  ): AsyncGenerator<Page> {
    let position = after;
    while (!signal.aborted) {
      if (this.#broken) throw this.#broken;
      if (!this.#isRecent(position)) {
        for await (const page of this.#fromLog(position, passOver)) {
          position = page.position;
          yield page;
          if (signal.aborted || this.#isRecent(position)) break;
        }
        continue;
      }
      const end = this.#end;
      if (end === undefined || (position !== undefined && position >= end)) {
        if (position !== undefined) yield { events: [], position, caughtUp: this.#caughtUp };
        await this.#news(signal);
      } else {
        const events = this.#recentAfter(position);
        position = end;
        yield { events, position, caughtUp: this.#caughtUp };
      }
    }
  }

  #isRecent(position: Position | undefined): boolean {
    return this.#recentFrom === undefined || (position !== undefined && position >= this.#recentFrom);
  }

  #recentAfter(position: Position | undefined): readonly RecordedEvent[] {
    if (position === undefined) return this.#recent.flatMap(({ events }) => events);
    let first = this.#recent.length;
    while (first > 0 && (this.#recent[first - 1] as Page).position > position) first--;
    const pages = this.#recent.slice(first);
    const [one] = pages;
    const [firstEvent] = one?.events ?? [];
    if (pages.length === 1 && one && firstEvent && firstEvent.position > position) return one.events;
    return pages.flatMap(({ events }) => events).filter((event) => event.position > position);
  }

  /** A stretch of the log: up to where the tail is now, or to where much can be passed over. */
  async *#fromLog(after: Position | undefined, passOver: PassOver): AsyncGenerator<Page> {
    const end = this.#end as Position;
    const jump = passOver(after);
    if (jump !== undefined) {
      yield { events: [], position: jump, caughtUp: false };
      return;
    }
    let events: RecordedEvent[] = [];
    for await (const event of this.#log.readAll(after)) {
      if (event.position > end) break;
      events.push(event);
      if (events.length < PAGE) continue;
      yield { events, position: event.position, caughtUp: false };
      events = [];
      if (passOver(event.position) !== undefined) return;
    }
    yield { events, position: end, caughtUp: false };
  }

  #news(signal: AbortSignal): Promise<void> {
    this.#ticking ??= setInterval(() => this.#wake(), TICK_MS).unref();
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake);
        this.#waiting.delete(wake);
        resolve();
      };
      signal.addEventListener('abort', wake);
      this.#waiting.add(wake);
      if (signal.aborted) wake();
    });
  }

  #wake(): void {
    if (this.#waiting.size === 0) {
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }
    for (const wake of this.#waiting) wake();
  }
}
