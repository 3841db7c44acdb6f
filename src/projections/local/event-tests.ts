import type { EventFilter } from '../event-filter.js';
import { type EventBlock, NO_REPOSITORY, textHash } from './event-block.js';
import type { Repositories } from './repositories.js';

/** Tests the events of a block by their rows. */
export type BlockTest = (block: EventBlock) => (row: number) => boolean;

/** What a filter asks of an event, apart from its position. @param allTypes see Meta */
export function blockTests(
  { types, subject, apiKeyId, from, to, except }: EventFilter,
  allTypes: readonly string[],
): BlockTest[] {
  const tests: BlockTest[] = [];
  if (types) {
    const wanted = allTypes.map((type) => types.has(type));
    tests.push((block) => {
      const column = block.column('type');
      return (row) => wanted[column[row] as number] as boolean;
    });
  }
  if (subject !== undefined) tests.push(isHashed('subject', subject));
  if (apiKeyId !== undefined) tests.push(isHashed('apiKeyId', apiKeyId));
  if (from && 'time' in from) {
    tests.push((block) => {
      const column = block.column('at');
      return (row) => (column[row] as number) >= from.time;
    });
  }
  if (to && 'time' in to) {
    tests.push((block) => {
      const column = block.column('at');
      return (row) => (column[row] as number) <= to.time;
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
    const column = block.column('repository');
    return (row) => {
      const number = column[row] as number;
      if (number === NO_REPOSITORY) return false;
      known[number] ??= includes(repositories.nameOf(number));
      return known[number];
    };
  };
}
