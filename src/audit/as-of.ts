import { setImmediate } from 'node:timers/promises';
import { apiKeyStream, evolveApiKey, isApiKeyStream } from '../domain/ai-api-key.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { ApiKeyEntry } from '../projections/api-key-index.js';
import { apiKeyView, type ListItem, toListItem } from '../projections/list-item.js';
import { type ListPage, type ListQuery, matchesFilter } from '../projections/queries.js';
import { countedUpTo, type KeyEvent, type Moment } from './point-in-time.js';

/** A key as it was at a moment. Position and id are those of the event that made it so: the last one that counts. */
export type KeyAsOf = ListItem & { readonly eventId: string };

/** Streams that are read at the same time, and so between two turns of the event loop. */
const AT_ONCE = 32;

/**
 * One key as it was, a deleted one too; undefined if it was not there yet.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function keyAsOf(
  log: EventStore,
  apiKeyId: string,
  moment: Moment,
): Promise<KeyAsOf | undefined> {
  const past = pastOf(moment);
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    if (isBeyond(recorded, moment)) break;
    past.add(recorded);
  }
  return past.key();
}

/**
 * A page of the keys of a repository as they were.
 * @param entries every key that may have been there, in the order of the list; each is read from the log
 * @throws KeyledgerError UNAVAILABLE
 */
export async function listAsOf(
  log: EventStore,
  entries: Iterable<ApiKeyEntry>,
  moment: Moment,
  query: ListQuery,
): Promise<ListPage<KeyAsOf>> {
  const { limit = Number.POSITIVE_INFINITY } = query;
  const items: KeyAsOf[] = [];
  for (const some of chunks(entries, AT_ONCE)) {
    const there = some.filter((entry) => mayBeThere(entry, moment));
    for (const key of await Promise.all(there.map((entry) => keyAsOf(log, entry.key.apiKeyId, moment)))) {
      if (!key || !matchesFilter(key, query, moment.time)) continue;
      if (items.length === limit) return { items, next: items.at(-1)?.createdPosition ?? null };
      items.push(key);
    }
    await setImmediate();
  }
  return { items, next: null };
}

/**
 * The keys of a repository as they were, deleted ones too, newest first, from one reading of the log. Nothing
 * is kept of other repositories.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function repositoryAsOf(log: EventStore, repoId: string, moment: Moment): Promise<KeyAsOf[]> {
  const streams = new Map<string, Past>();
  for await (const recorded of log.readAll()) {
    if (isBeyond(recorded, moment)) break;
    let past = streams.get(recorded.stream);
    if (!past && (await beginsKeyOf(repoId, recorded, log))) {
      past = pastOf(moment);
      streams.set(recorded.stream, past);
    }
    past?.add(recorded);
  }
  return [...streams.values()].flatMap((past) => past.key() ?? []).reverse();
}

/** A key as callers see it, and the event that made it so. */
export const shownAsOf = (key: KeyAsOf, { time }: Moment) => ({
  ...apiKeyView(key, time),
  position: key.position,
  eventId: key.eventId,
});

type Past = { add(recorded: RecordedEvent): void; key(): KeyAsOf | undefined };

/** The fold of one key's events, which are given in order, up to a moment. */
function pastOf(moment: Moment): Past {
  const counted = countedUpTo(moment);
  let past: (ApiKeyEntry & { readonly eventId: string }) | undefined;
  const fold = ({ recorded, event }: KeyEvent) => {
    const { id: eventId, revision, position } = recorded;
    const key = evolveApiKey(past?.key, event);
    // What follows a deletion, or an event that cannot be read, makes nothing of the key.
    const isOver = key.status === 'deleted' || key.status === 'unavailable';
    if (past && isOver && key.status === past.key.status) return;
    past = { key, revision, createdPosition: past?.createdPosition ?? position, position, eventId };
  };
  return {
    add: (recorded) => counted(recorded).forEach(fold),
    key: () => past && { ...toListItem(past), eventId: past.eventId },
  };
}

const isBeyond = ({ position }: RecordedEvent, moment: Moment): boolean =>
  moment.position !== undefined && position > moment.position;

/** At a position. At a time only the stream tells: a creation may be dated by a clock that was ahead. */
const mayBeThere = ({ createdPosition }: ApiKeyEntry, { position }: Moment): boolean =>
  position === undefined || createdPosition <= position;

/** Is this the first event of a key of the repository? It is said by the event, before it is known that it can be read. */
async function beginsKeyOf(repoId: string, recorded: RecordedEvent, log: EventStore): Promise<boolean> {
  const { stream, position, data, revision } = recorded;
  if (!isApiKeyStream(stream) || (data as { repoId?: unknown } | null)?.repoId !== repoId) return false;
  if (revision === 0) return true;
  // The events before it are another repository's, or lost.
  for await (const first of log.readStream(stream)) return first.position === position;
  return false;
}

function* chunks<T>(all: Iterable<T>, size: number): Generator<T[]> {
  let chunk: T[] = [];
  for (const one of all) {
    chunk.push(one);
    if (chunk.length < size) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}
