import { setImmediate } from 'node:timers/promises';
import { apiKeyStream, evolveApiKey } from '../domain/ai-api-key.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { chunksOf } from '../grouping.js';
import type { ApiKeyEntry } from '../projections/api-key-entry.js';
import { apiKeyView, type ListItem, toListItem } from '../projections/list-item.js';
import { type ListPage, type ListQuery, matchesFilter } from '../projections/list-query.js';
import { type ApiKeyEventAt, eventsUpTo, type PointInTime } from './point-in-time.js';

/** A key at a point in time, with position and id of the event that led to this state: the last one that counts. */
export type KeyAsOf = ListItem & { readonly eventId: string };

/** Streams read concurrently, between two turns of the event loop. */
const CONCURRENT_READS = 32;

/**
 * A key at a point in time, including a deleted one; undefined if it did not exist yet.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function keyAsOf(
  log: EventStore,
  apiKeyId: string,
  pointInTime: PointInTime,
): Promise<KeyAsOf | undefined> {
  const fold = foldUntil(pointInTime);
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    if (isAfter(recorded, pointInTime)) break;
    fold.add(recorded);
  }
  return fold.key();
}

/**
 * The keys of a repository that match a query at a point in time, in arrays that come while the caller takes them.
 * @param entries every key that may have existed, in list order; each is read from the log
 * @throws KeyledgerError UNAVAILABLE
 */
export async function* keysAsOf(
  log: EventStore,
  entries: Iterable<ApiKeyEntry>,
  pointInTime: PointInTime,
  query: ListQuery,
): AsyncGenerator<KeyAsOf[]> {
  for (const some of chunksOf(entries, CONCURRENT_READS)) {
    const there = some.filter((entry) => mayHaveExisted(entry, pointInTime));
    const keys = await Promise.all(there.map((entry) => keyAsOf(log, entry.key.apiKeyId, pointInTime)));
    yield keys.filter((key) => key !== undefined).filter((key) => matchesFilter(key, query, pointInTime.time));
    await setImmediate();
  }
}

/** A page of keysAsOf. @throws KeyledgerError UNAVAILABLE */
export async function listAsOf(
  log: EventStore,
  entries: Iterable<ApiKeyEntry>,
  pointInTime: PointInTime,
  query: ListQuery & { readonly limit: number },
): Promise<ListPage<KeyAsOf>> {
  const items: KeyAsOf[] = [];
  for await (const keys of keysAsOf(log, entries, pointInTime, query)) {
    for (const key of keys) {
      if (items.length === query.limit) return { items, next: items.at(-1)?.createdPosition ?? null };
      items.push(key);
    }
  }
  return { items, next: null };
}

/**
 * All keys of a repository at a point in time, including deleted ones, newest first, from one pass over the log. Keeps
 * nothing of other repositories in memory.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function repositoryAsOf(log: EventStore, repoId: string, pointInTime: PointInTime): Promise<KeyAsOf[]> {
  const streams = new Map<string, KeyFold>();
  for await (const recorded of log.readAll()) {
    if (isAfter(recorded, pointInTime)) break;
    let fold = streams.get(recorded.stream);
    if (!fold && (await startsKeyIn(repoId, recorded, log))) {
      fold = foldUntil(pointInTime);
      streams.set(recorded.stream, fold);
    }
    fold?.add(recorded);
  }
  return [...streams.values()].flatMap((fold) => fold.key() ?? []).reverse();
}

/** The caller's view of a key, with the event that led to this state. */
export const apiKeyAsOfView = (key: KeyAsOf, { time }: PointInTime) => ({
  ...apiKeyView(key, time),
  position: key.position,
  eventId: key.eventId,
});

type KeyFold = { add(recorded: RecordedEvent): void; key(): KeyAsOf | undefined };

/** Fold of one key's events, added in order, up to a point in time. */
function foldUntil(pointInTime: PointInTime): KeyFold {
  const counted = eventsUpTo(pointInTime);
  let latest: (ApiKeyEntry & { readonly eventId: string }) | undefined;
  const apply = ({ recorded, event }: ApiKeyEventAt) => {
    const { id: eventId, revision, position } = recorded;
    const key = evolveApiKey(latest?.key, event);
    // An event after a deletion, or after an unreadable one, does not change the key.
    const isFinal = key.status === 'deleted' || key.status === 'unavailable';
    if (latest && isFinal && key.status === latest.key.status) return;
    latest = { key, revision, createdPosition: latest?.createdPosition ?? position, position, eventId };
  };
  return {
    add: (recorded) => counted(recorded).forEach(apply),
    key: () => latest && { ...toListItem(latest), eventId: latest.eventId },
  };
}

const isAfter = ({ position }: RecordedEvent, pointInTime: PointInTime): boolean =>
  pointInTime.position !== undefined && position > pointInTime.position;

/** Filters by position. For a time only the stream decides: a clock that was ahead may have dated the creation. */
const mayHaveExisted = ({ createdPosition }: ApiKeyEntry, { position }: PointInTime): boolean =>
  position === undefined || createdPosition <= position;

/**
 * Whether this is the first event of a key in the repository. Uses the raw data, because the event may be unreadable.
 */
async function startsKeyIn(repoId: string, recorded: RecordedEvent, log: EventStore): Promise<boolean> {
  const { stream, position, data, revision } = recorded;
  if (apiKeyIdOf(stream) === undefined || (data as { repoId?: unknown } | null)?.repoId !== repoId) return false;
  if (revision === 0) return true;
  // Earlier events belong to another repository, or are lost.
  for await (const first of log.readStream(stream)) return first.position === position;
  return false;
}
