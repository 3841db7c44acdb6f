import { setImmediate } from 'node:timers/promises';
import { apiKeyStream, evolveApiKey, isApiKeyStream } from '../domain/ai-api-key.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { ApiKeyEntry } from '../projections/api-key-index.js';
import { apiKeyView, type ListItem, toListItem } from '../projections/list-item.js';
import { type ListPage, type ListQuery, matchesFilter } from '../projections/queries.js';
import { type ApiKeyEventAt, eventsUpTo, type PointInTime } from './point-in-time.js';

/** A key as it was at a moment. Position and id are those of the event that made it so: the last one that counts. */
export type KeyAsOf = ListItem & { readonly eventId: string };

/** Streams that are read at the same time, and so between two turns of the event loop. */
const CONCURRENT_READS = 32;

/**
 * One key as it was, a deleted one too; undefined if it was not there yet.
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
 * A page of the keys of a repository as they were.
 * @param entries every key that may have been there, in the order of the list; each is read from the log
 * @throws KeyledgerError UNAVAILABLE
 */
export async function listAsOf(
  log: EventStore,
  entries: Iterable<ApiKeyEntry>,
  pointInTime: PointInTime,
  query: ListQuery,
): Promise<ListPage<KeyAsOf>> {
  const { limit = Number.POSITIVE_INFINITY } = query;
  const items: KeyAsOf[] = [];
  for (const some of chunks(entries, CONCURRENT_READS)) {
    const there = some.filter((entry) => mayHaveExisted(entry, pointInTime));
    for (const key of await Promise.all(
      there.map((entry) => keyAsOf(log, entry.key.apiKeyId, pointInTime)),
    )) {
      if (!key || !matchesFilter(key, query, pointInTime.time)) continue;
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
export async function repositoryAsOf(
  log: EventStore,
  repoId: string,
  pointInTime: PointInTime,
): Promise<KeyAsOf[]> {
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

/** A key as callers see it, and the event that made it so. */
export const apiKeyAsOfView = (key: KeyAsOf, { time }: PointInTime) => ({
  ...apiKeyView(key, time),
  position: key.position,
  eventId: key.eventId,
});

type KeyFold = { add(recorded: RecordedEvent): void; key(): KeyAsOf | undefined };

/** The fold of one key's events, which are given in order, up to a moment. */
function foldUntil(pointInTime: PointInTime): KeyFold {
  const counted = eventsUpTo(pointInTime);
  let latest: (ApiKeyEntry & { readonly eventId: string }) | undefined;
  const apply = ({ recorded, event }: ApiKeyEventAt) => {
    const { id: eventId, revision, position } = recorded;
    const key = evolveApiKey(latest?.key, event);
    // An event after a deletion, or after one that cannot be read, leaves the key as it is.
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

/** At a position. At a time only the stream tells: a creation may be dated by a clock that was ahead. */
const mayHaveExisted = ({ createdPosition }: ApiKeyEntry, { position }: PointInTime): boolean =>
  position === undefined || createdPosition <= position;

/** Is this the first event of a key of the repository? It is said by the event, before it is known that it can be read. */
async function startsKeyIn(repoId: string, recorded: RecordedEvent, log: EventStore): Promise<boolean> {
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
