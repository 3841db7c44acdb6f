import { positionNumbers } from '../../event-store/position.js';
import type { EventFilter } from '../event-filter.js';
import { type EventChunk, NO_REPOSITORY, textHash } from './event-chunk.js';
import type { Repositories } from './repositories.js';

/** Tests of one event, in a row of a chunk. */
export type RowTest = (chunk: EventChunk, row: number) => boolean;

/** What a filter asks of an event. @param allTypes see Meta */
export function rowTests(
  { types, subject, apiKeyId, from, to, before, except }: EventFilter,
  allTypes: readonly string[],
): RowTest[] {
  const tests: RowTest[] = [];
  if (types) {
    const numbers = new Set([...types].map((type) => allTypes.indexOf(type)));
    tests.push((chunk, row) => numbers.has(chunk.type(row)));
  }
  if (subject !== undefined) {
    const hash = textHash(subject);
    tests.push((chunk, row) => chunk.hasSubject(row, hash));
  }
  if (apiKeyId !== undefined) {
    const hash = textHash(apiKeyId);
    tests.push((chunk, row) => chunk.isAbout(row, hash));
  }
  if (from && 'time' in from) tests.push((chunk, row) => chunk.at(row) >= from.time);
  if (to && 'time' in to) tests.push((chunk, row) => chunk.at(row) <= to.time);
  if (from && 'position' in from) {
    const position = positionNumbers(from.position);
    tests.push((chunk, row) => chunk.compare(row, position) > 0);
  }
  if (to && 'position' in to) {
    const position = positionNumbers(to.position);
    tests.push((chunk, row) => chunk.compare(row, position) <= 0);
  }
  if (before !== undefined) {
    const position = positionNumbers(before);
    tests.push((chunk, row) => chunk.compare(row, position) < 0);
  }
  if (except && except.size > 0) tests.push((chunk, row) => !except.has(chunk.number(row)));
  return tests;
}

/** The event is of a repository that `includes` is true of. */
export function isIncluded(includes: (repoId: string) => boolean, repositories: Repositories): RowTest {
  const known = new Map([[NO_REPOSITORY, false]]);
  return (chunk, row) => {
    const number = chunk.repository(row);
    let answer = known.get(number);
    if (answer === undefined) {
      answer = includes(repositories.nameOf(number));
      known.set(number, answer);
    }
    return answer;
  };
}
