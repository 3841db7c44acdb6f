import type { Position } from '../event-store/position.js';
import { type ClockReading, StalenessClock } from '../staleness-clock.js';

/** How long a read waits for the position that it asks for, and a mutation for its own projection. */
const MIN_POSITION_TIMEOUT_MS = 1000;

/** How far one thing has come in the log, when that was last known to be all of it, and who waits. */
export class ProjectionProgress {
  readonly #currency: StalenessClock;
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #position: Position | undefined;

  constructor(now: () => ClockReading) {
    this.#currency = new StalenessClock(now);
    this.#currency.confirmCurrentAt(now());
  }

  get position(): Position | undefined {
    return this.#position;
  }

  advanceTo(position: Position | undefined): void {
    this.#position = position;
    for (const waiter of this.#waiting) if (this.hasReached(waiter.position)) waiter.resolve(true);
  }

  hasReached(position: Position): boolean {
    return this.#position !== undefined && this.#position >= position;
  }

  /** Waits a second at most. @returns false if the position is not reached by then */
  waitFor(position: Position): Promise<boolean> {
    if (this.hasReached(position)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter = {
        position,
        resolve: (reached: boolean) => {
          clearTimeout(timer);
          this.#waiting.delete(waiter);
          resolve(reached);
        },
      };
      const timer = setTimeout(() => waiter.resolve(false), MIN_POSITION_TIMEOUT_MS);
      this.#waiting.add(waiter);
    });
  }

  /** It held the whole log at that time. */
  confirmCurrentAt(reading: ClockReading): void {
    this.#currency.confirmCurrentAt(reading);
  }

  /** For how many seconds it has not been known whether the log holds more. */
  get staleness(): number {
    return this.#currency.staleness;
  }

  stop(): void {
    for (const waiter of this.#waiting) waiter.resolve(false);
  }
}
