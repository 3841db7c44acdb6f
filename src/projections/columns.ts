/** Many numbers or strings in little memory. */

const FIRST_SIZE = 16;

/** A typed array that grows. */
export class Column {
  #values: Float64Array | Uint32Array;
  #length = 0;

  constructor(type: typeof Float64Array | typeof Uint32Array) {
    this.#values = new type(FIRST_SIZE);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new (this.#values.constructor as typeof Uint32Array)(this.#length * 2);
      larger.set(this.#values as Uint32Array);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  at(index: number): number {
    return this.#values[index] as number;
  }
}

/** Interns strings that repeat: each is kept once and has a number, from 0 on. */
export class StringDictionary {
  readonly #numbers = new Map<string, number>();
  readonly #strings: string[] = [];

  intern(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#numbers.set(text, this.#strings.length);
    return this.#strings.push(text) - 1;
  }

  /** Undefined if the string has no number. */
  find(text: string): number | undefined {
    return this.#numbers.get(text);
  }

  at(number: number): string {
    return this.#strings[number] as string;
  }
}
