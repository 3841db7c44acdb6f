import { type CloudEvent, cloudEvent } from '../event-store/cloud-event.js';
import type { EventBatch, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { Projector } from '../projections/projector.js';

/**
 * Types that a reader gets only if it asks for them by name: who reads the audit causes such an event, so a reader that
 * reads the audit for each event it gets would cause events without end.
 */
const ONLY_BY_NAME: readonly string[] = ['AuditAccessed'];

/** Which events a reader gets. */
export type FeedQuery = {
  /** Those behind this position; undefined: from the log's first event on. */
  readonly after: Position | undefined;
  readonly sees: (repoId: string) => boolean;
  /** Undefined: of every type but those of ONLY_BY_NAME. */
  readonly types: ReadonlySet<string> | undefined;
};

/** An event of the feed, where it is, and the JSON that all readers get. */
export type FeedEvent = {
  readonly event: CloudEvent;
  readonly position: Position;
  readonly json: string;
};

/** What comes next for a reader, and how far that is in the log: events that are not for it are passed by. */
export type FeedPage = Pick<EventBatch, 'position' | 'caughtUp'> & { readonly events: readonly FeedEvent[] };

/** Of events that several readers get, each is made once. */
const feedEventCache = new WeakMap<RecordedEvent, FeedEvent>();

/**
 * Every event that a reader asks for and may see, in log order, without end. While there is none a page without
 * events comes about every second.
 * @throws KeyledgerError OTHER_LOG, UNAVAILABLE
 */
export async function* readFeed(
  projector: Projector,
  { after, sees, types }: FeedQuery,
  signal: AbortSignal,
): AsyncGenerator<FeedPage> {
  const skipTo = (position: Position | undefined) => projector.eventIndex.skipTo(position, sees, types);
  for await (const { events, position, caughtUp } of projector.tail.read(after, signal, { skipTo, sees })) {
    const wanted: FeedEvent[] = [];
    for (const recorded of events) {
      const { type } = recorded;
      if (types ? !types.has(type) : ONLY_BY_NAME.includes(type)) continue;
      const repoId = projector.repositoryIdOf(recorded);
      if (repoId !== undefined && sees(repoId)) wanted.push(feedEvent(recorded, repoId));
    }
    yield { events: wanted, position, caughtUp };
  }
}

function feedEvent(recorded: RecordedEvent, repoId: string): FeedEvent {
  const known = feedEventCache.get(recorded);
  if (known) return known;
  const event = cloudEvent(recorded, repoId);
  const fresh = { event, position: recorded.position, json: JSON.stringify(event) };
  feedEventCache.set(recorded, fresh);
  return fresh;
}
