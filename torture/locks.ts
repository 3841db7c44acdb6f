/** What only one may hold at a time, by name; who asked first holds it first. */
export class Locks {
  readonly #last = new Map<string, Promise<void>>();

  /** Waits until all of them are free, and frees them when `use` has ended. */
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
