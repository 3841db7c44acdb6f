import type { Position } from '../event-store/position.js';
import { type ClockReading, StalenessClock } from '../staleness-clock.js';

/** How long a read waits for its minimum position, and a mutation for its own projection. */
const MIN_POSITION_TIMEOUT_MS = 1000;

/** Position of a projection in the log, its staleness, and the readers that wait for a position. */
export class ProjectionProgress {
  readonly #stalenessClock: StalenessClock;
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #position: Position | undefined;

  constructor(now: () => ClockReading) {
    this.#stalenessClock = new StalenessClock(now);
    this.#stalenessClock.confirmCurrentAt(now());
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

  /** Waits for at most a second. @returns false if the position is not reached by then */
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

  /** The projection holds everything that the log held at this reading. */
  confirmCurrentAt(reading: ClockReading): void {
    this.#stalenessClock.confirmCurrentAt(reading);
  }

  /** Seconds since the projection was last known to hold the whole log. */
  get staleness(): number {
    return this.#stalenessClock.staleness;
  }

  stop(): void {
    for (const waiter of this.#waiting) waiter.resolve(false);
  }
}
