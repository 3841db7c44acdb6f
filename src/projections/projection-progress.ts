import type { Position } from '../event-store/position.js';

/** How long a read waits for the position that it asks for, and a mutation for its own projection. */
const MIN_POSITION_TIMEOUT_MS = 1000;

/** A moment by the clock of the day, and by one that nobody sets (milliseconds). */
export type ClockReading = { readonly clock: number; readonly steady: number };

/** How far one thing has come in the log, when that was last known to be all of it, and who waits. */
export class ProjectionProgress {
  readonly #now: () => ClockReading;
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #position: Position | undefined;
  #currentAsOf: ClockReading;

  constructor(now: () => ClockReading) {
    this.#now = now;
    this.#currentAsOf = now();
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

  /** At this moment the log held no more than is here now. */
  confirmCurrentAt(reading: ClockReading): void {
    this.#currentAsOf = reading;
  }

  /**
   * For how many seconds it has not been known that this is all that the log holds. The longer of what two
   * clocks say: one may be set back, the other stands still while the machine sleeps.
   */
  get staleness(): number {
    const { clock, steady } = this.#now();
    return Math.max(0, clock - this.#currentAsOf.clock, steady - this.#currentAsOf.steady) / 1000;
  }

  stop(): void {
    for (const waiter of this.#waiting) waiter.resolve(false);
  }
}
