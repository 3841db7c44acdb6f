import type { EventFilter } from '../event-filter.js';
import { type EventBlock, NO_REPOSITORY, type TimeSpan, textHash } from './event-block.js';
import type { Repositories } from './repositories.js';

/** Tests the events of a block by their rows; a boolean if all of them pass, or none. */
export type BlockTest = (block: EventBlock) => boolean | ((row: number) => boolean);

/** What a filter asks of an event, apart from its position; what few events pass comes first. @param allTypes see Meta */
export function blockTests(
  { types, subject, apiKeyId, from, to, except }: EventFilter,
  allTypes: readonly string[],
): BlockTest[] {
  const tests: BlockTest[] = [];
  if (subject !== undefined) tests.push(isHashed('subject', subject));
  if (apiKeyId !== undefined) tests.push(isHashed('apiKeyId', apiKeyId));
  if (from && 'time' in from) tests.push(isWithin([from.time, Number.POSITIVE_INFINITY]));
  if (to && 'time' in to) tests.push(isWithin([Number.NEGATIVE_INFINITY, to.time]));
  if (types) {
    const wanted = allTypes.map((type) => types.has(type));
    tests.push((block) => {
      const column = block.column('kind');
      return (row) => wanted[column[row * 2 + 1] as number] as boolean;
    });
  }
  if (except && except.size > 0) {
    tests.push((block) => {
      const column = block.column('number');
      return (row) => !except.has(column[row] as number);
    });
  }
  return tests;
}

/** Reads the times of events only where some of a block are within the span and some may not be. */
function isWithin([first, last]: TimeSpan): BlockTest {
  return (block) => {
    const [earliest, latest] = block.times;
    if (latest < first || earliest > last) return false;
    if (earliest >= first && latest <= last) return true;
    const column = block.column('at');
    return (row) => (column[row] as number) >= first && (column[row] as number) <= last;
  };
}

function isHashed(name: 'subject' | 'apiKeyId', text: string): BlockTest {
  const [first, second] = textHash(text);
  return (block) => {
    const column = block.column(name);
    return (row) => column[row * 2] === first && column[row * 2 + 1] === second;
  };
}

/** The event is of a repository that `includes` is true of. */
export function isIncluded(includes: (repoId: string) => boolean, repositories: Repositories): BlockTest {
  const known: boolean[] = [];
  return (block) => {
    const column = block.column('kind');
    return (row) => {
      const number = column[row * 2] as number;
      if (number === NO_REPOSITORY) return false;
      known[number] ??= includes(repositories.nameOf(number));
      return known[number];
    };
  };
}

/** The rows that pass all tests. A test that no row is left for reads nothing. */
export function passing(tests: readonly BlockTest[], block: EventBlock, rows: readonly number[]): readonly number[] {
  let left = rows;
  for (const test of tests) {
    if (left.length === 0) break;
    const passes = test(block);
    if (passes === false) return [];
    if (passes !== true) left = left.filter(passes);
  }
  return left;
}
