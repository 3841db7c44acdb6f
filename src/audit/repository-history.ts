import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { RangeBound } from '../projections/event-index.js';
import { type FoldState, type HistoryEntry, INITIAL_FOLD } from './describe-event.js';
import { eventsInRange } from './event-range.js';
import { describeNext } from './history.js';

/** Which events are meant; all where nothing is said. */
export type RepositoryQuery = {
  readonly from?: RangeBound | undefined;
  readonly to?: RangeBound | undefined;
  readonly types?: readonly string[] | undefined;
  /** Of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
};

/**
 * The events of a repository, oldest first, from one reading of the log up to an end. What an event changed
 * is told by those before it, so those are read too.
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
      (from === undefined ||
        ('time' in from ? Date.parse(entry.at) >= from.time : entry.position > from.position)) &&
      (types === undefined || types.includes(entry.type)) &&
      (subject === undefined || entry.actor?.subject === subject) &&
      (apiKeyId === undefined || entry.apiKeyId === apiKeyId);
    if (matches) yield entry;
  }
}
