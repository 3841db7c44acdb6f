import { count, countOf } from '../src/quantity.js';
import type { Result } from './run.js';

const SHOWN = 30;

/** The result as people read it. */
export function report({ calls, faults, eras, events, heard, slowestMs, violations }: Result): string {
  const total = Object.values(calls).reduce((sum, each) => sum + each, 0);
  return [
    `${countOf(total, 'calls')}, the slowest answered within ${count(slowestMs)} ms`,
    ...table(calls),
    countOf(
      Object.values(faults).reduce((sum, each) => sum + each, 0),
      'faults',
    ),
    ...table(faults),
    `${countOf(events, 'events')} in the log at the end, which was restored ${countOf(eras - 1, 'times')}; ${count(heard)} heard by readers of the feed`,
    violations.length === 0 ? 'No violation' : countOf(violations.length, 'VIOLATIONS'),
    ...violations.slice(0, SHOWN).map(({ check, what }) => `  ${check}: ${what}`),
  ].join('\n');
}

const table = (counts: Readonly<Record<string, number>>) =>
  Object.entries(counts)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, number]) => `  ${name.padEnd(34)} ${count(number).padStart(9)}`);
