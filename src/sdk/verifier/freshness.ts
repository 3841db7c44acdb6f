/**
 * How old what is known may be, from what was last heard of it. The longer of what two clocks say: one may be set
 * back, the other stands still while the machine sleeps.
 */
export class Freshness {
  #heard: { readonly clock: number; readonly steady: number } | undefined;

  /** @param staleness how old it is now, in seconds */
  was(staleness: number): void {
    this.#heard = { clock: Date.now() - staleness * 1000, steady: performance.now() - staleness * 1000 };
  }

  /** In seconds; Infinity if nothing was heard yet. */
  get staleness(): number {
    if (!this.#heard) return Number.POSITIVE_INFINITY;
    return Math.max(0, Date.now() - this.#heard.clock, performance.now() - this.#heard.steady) / 1000;
  }
}
