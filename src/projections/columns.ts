/** Many numbers or words in little memory. */

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

/** Words that come again and again, each kept once under a number from 0 on. */
export class StringDictionary {
  readonly #numbers = new Map<string, number>();
  readonly #words: string[] = [];

  intern(word: string): number {
    const known = this.#numbers.get(word);
    if (known !== undefined) return known;
    this.#numbers.set(word, this.#words.length);
    return this.#words.push(word) - 1;
  }

  /** Undefined if the word was never numbered. */
  find(word: string): number | undefined {
    return this.#numbers.get(word);
  }

  at(number: number): string {
    return this.#words[number] as string;
  }
}
