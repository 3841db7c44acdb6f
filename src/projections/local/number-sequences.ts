/** Adds one to the count at an index. */
export function increment(counts: number[], index: number): void {
  while (counts.length <= index) counts.push(0);
  counts[index] = (counts[index] as number) + 1;
}

export const sumOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** Every number from one down to 0. */
export const countDown = (from: number): number[] => Array.from({ length: from + 1 }, (_, i) => from - i);

/** Binary search: the first number from `low` on that passes a test which all after it pass, too; `high` if none before it does. */
export function firstWhere(low: number, high: number, test: (number: number) => boolean): number {
  let [first, end] = [low, high];
  while (first < end) {
    const middle = Math.floor((first + end) / 2);
    if (test(middle)) end = middle;
    else first = middle + 1;
  }
  return first;
}

/** Merges sequences that descend into one that does. */
export function* mergeDescending(sequences: readonly Iterator<number>[]): Generator<number> {
  const heads = sequences.map((sequence) => ({ sequence, next: sequence.next() }));
  for (;;) {
    let largest: (typeof heads)[number] | undefined;
    for (const head of heads) if (!head.next.done && head.next.value > (largest?.next.value ?? -1)) largest = head;
    if (!largest) return;
    yield largest.next.value as number;
    largest.next = largest.sequence.next();
  }
}
