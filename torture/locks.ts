/** Named exclusive locks, granted in the order of requests. */
export class Locks {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits until all locks are free, and releases them when `use` has ended. */
  async hold<T>(names: readonly string[], use: () => Promise<T>): Promise<T> {
    const before = names.map((name) => this.#last.get(name));
    const held = Promise.all(before).then(use);
    const free = held.then(
      () => undefined,
      () => undefined,
    );
    for (const name of names) this.#last.set(name, free);
    return held;
  }
}
