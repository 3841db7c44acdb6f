/**
 * How old what is known may be, from what was last heard of it. The longer of what two clocks say: one may be set
 * back, the other stands still while the machine sleeps.
 */
export class StalenessClock {
  #observed: { readonly clock: number; readonly steady: number } | undefined;

  /** @param staleness how old it is now, in seconds */
  observe(staleness: number): void {
    this.#observed = { clock: Date.now() - staleness * 1000, steady: performance.now() - staleness * 1000 };
  }

  /** In seconds; Infinity if nothing was heard yet. */
  get staleness(): number {
    if (!this.#observed) return Number.POSITIVE_INFINITY;
    return Math.max(0, Date.now() - this.#observed.clock, performance.now() - this.#observed.steady) / 1000;
  }
}
