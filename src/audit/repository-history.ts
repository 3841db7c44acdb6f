import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { RangeBound } from '../projections/event-filter.js';
import { type FoldState, type HistoryEntry, INITIAL_FOLD } from './describe-event.js';
import { eventsInRange } from './event-range.js';
import { describeNext } from './history.js';

/** Filters for events; all events without any. */
export type RepositoryQuery = {
  readonly from?: RangeBound | undefined;
  readonly to?: RangeBound | undefined;
  readonly types?: readonly string[] | undefined;
  /** Subject of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
};

/**
 * Events of a repository, oldest first, from one pass over the log up to an end. Reads events before `from`, too,
 * because they determine what an event changed.
 */
export async function* repositoryHistory(
  log: EventStore,
  repoId: string,
  { from, to, types, subject, apiKeyId }: RepositoryQuery,
  end: Position,
): AsyncIterable<HistoryEntry> {
  const folds = new Map<string, FoldState<unknown>>();
  for await (const recorded of eventsInRange(log, { repoId, to }, end)) {
    const { entry, after } = describeNext(folds.get(recorded.stream) ?? INITIAL_FOLD, recorded);
    if (entry.accessed === undefined) folds.set(recorded.stream, after);
    const matches =
      (from === undefined || ('time' in from ? Date.parse(entry.at) >= from.time : entry.position > from.position)) &&
      (types === undefined || types.includes(entry.type)) &&
      (subject === undefined || entry.actor?.subject === subject) &&
      (apiKeyId === undefined || entry.apiKeyId === apiKeyId);
    if (matches) yield entry;
  }
}
