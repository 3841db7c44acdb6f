import type { EpochMs } from './domain/time.js';

/** A time by the system clock, and by the monotonic clock (performance.now(), in milliseconds). */
export type ClockReading = { readonly clock: EpochMs; readonly steady: number };

export const readClocks = (): ClockReading => ({ clock: Date.now(), steady: performance.now() });

/**
 * How long ago something was known to be current: the longer by two clocks, because the system clock may be set back
 * and the monotonic one stops during suspend.
 */
export class StalenessClock {
  readonly #now: () => ClockReading;
  #currentAsOf: ClockReading | undefined;

  constructor(now = readClocks) {
    this.#now = now;
  }

  /** @param age milliseconds between the last known current state and the reading */
  confirmCurrentAt({ clock, steady }: ClockReading, age = 0): void {
    this.#currentAsOf = { clock: clock - age, steady: steady - age };
  }

  /** Seconds; Infinity before the first confirmation. */
  get staleness(): number {
    if (!this.#currentAsOf) return Number.POSITIVE_INFINITY;
    const { clock, steady } = this.#now();
    return Math.max(0, clock - this.#currentAsOf.clock, steady - this.#currentAsOf.steady) / 1000;
  }
}
