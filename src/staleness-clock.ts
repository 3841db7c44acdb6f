import type { EpochMs } from './domain/time.js';

/** A time by the clock of the day, and by the steady clock that nobody sets (performance.now()), in milliseconds. */
export type ClockReading = { readonly clock: EpochMs; readonly steady: number };

export const readClocks = (): ClockReading => ({ clock: Date.now(), steady: performance.now() });

/**
 * How long ago something was known to be current. The longer of what two clocks say: the clock of the day may be set
 * back, the steady one stops while the machine sleeps.
 */
export class StalenessClock {
  readonly #now: () => ClockReading;
  #currentAsOf: ClockReading | undefined;

  constructor(now = readClocks) {
    this.#now = now;
  }

  /** @param age how long before the reading it was current (milliseconds) */
  confirmCurrentAt({ clock, steady }: ClockReading, age = 0): void {
    this.#currentAsOf = { clock: clock - age, steady: steady - age };
  }

  /** Seconds; Infinity if it never was known to be current. */
  get staleness(): number {
    if (!this.#currentAsOf) return Number.POSITIVE_INFINITY;
    const { clock, steady } = this.#now();
    return Math.max(0, clock - this.#currentAsOf.clock, steady - this.#currentAsOf.steady) / 1000;
  }
}
