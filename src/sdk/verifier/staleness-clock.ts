/**
 * Age of data, since the last observation of it. Takes the larger of two clocks: one may be set back, the
 * other stops while the machine sleeps.
 */
export class StalenessClock {
  #observed: { readonly clock: number; readonly steady: number } | undefined;

  /** @param staleness age of the data now, in seconds */
  observe(staleness: number): void {
    this.#observed = { clock: Date.now() - staleness * 1000, steady: performance.now() - staleness * 1000 };
  }

  /** In seconds; Infinity before the first observation. */
  get staleness(): number {
    if (!this.#observed) return Number.POSITIVE_INFINITY;
    return Math.max(0, Date.now() - this.#observed.clock, performance.now() - this.#observed.steady) / 1000;
  }
}
