import type { Position } from '../event-store/position.js';

/** How long a read waits for the position that it asks for, and a mutation for its own projection. */
const PATIENCE_MS = 1000;

/** A moment by the clock of the day, and by one that nobody sets (milliseconds). */
export type Moment = { readonly clock: number; readonly steady: number };

/** How far one thing has come in the log, when that was last known to be all of it, and who waits. */
export class Progress {
  readonly #now: () => Moment;
  readonly #waiting = new Set<{ position: Position; resolve: (reached: boolean) => void }>();
  #position: Position | undefined;
  #freshAt: Moment;

  constructor(now: () => Moment) {
    this.#now = now;
    this.#freshAt = now();
  }

  get position(): Position | undefined {
    return this.#position;
  }

  reach(position: Position | undefined): void {
    this.#position = position;
    for (const waiter of this.#waiting) if (this.has(waiter.position)) waiter.resolve(true);
  }

  has(position: Position): boolean {
    return this.#position !== undefined && this.#position >= position;
  }

  /** Waits a second at most. @returns false if the position is not reached by then */
  waitFor(position: Position): Promise<boolean> {
    if (this.has(position)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter = {
        position,
        resolve: (reached: boolean) => {
          clearTimeout(timer);
          this.#waiting.delete(waiter);
          resolve(reached);
        },
      };
      const timer = setTimeout(() => waiter.resolve(false), PATIENCE_MS);
      this.#waiting.add(waiter);
    });
  }

  /** At this moment the log held no more than is here now. */
  wasWholeAt(moment: Moment): void {
    this.#freshAt = moment;
  }

  /**
   * For how many seconds it has not been known that this is all that the log holds. The longer of what two
   * clocks say: one may be set back, the other stands still while the machine sleeps.
   */
  get staleness(): number {
    const { clock, steady } = this.#now();
    return Math.max(0, clock - this.#freshAt.clock, steady - this.#freshAt.steady) / 1000;
  }

  stop(): void {
    for (const waiter of this.#waiting) waiter.resolve(false);
  }
}
