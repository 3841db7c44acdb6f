import { type CloudEvent, cloudEvent } from '../event-store/cloud-event.js';
import type { EventBatch, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { Projector } from '../projections/projector.js';

/**
 * Types that a reader receives only if it names them. Reading the audit appends such an event, so a reader that reads
 * the audit for each event would cause events without end.
 */
const ONLY_BY_NAME: readonly string[] = ['AuditAccessed'];

export type FeedQuery = {
  /** Events after this position; undefined: from the log's first event on. */
  readonly after: Position | undefined;
  readonly canSee: (repoId: string) => boolean;
  /** Undefined: every type except those of ONLY_BY_NAME. */
  readonly types: ReadonlySet<string> | undefined;
};

/**
 * An event of the feed (its `event.position` is a resume token), its bare position, and the JSON that all readers
 * receive.
 */
export type FeedEvent = {
  readonly event: CloudEvent;
  readonly position: Position;
  readonly json: string;
};

/** The next events for a reader, and how far in the log it is then, past events that are not for it. */
export type FeedBatch = Pick<EventBatch, 'position' | 'caughtUp'> & { readonly events: readonly FeedEvent[] };

/** Readers that receive the same event share one conversion. */
const feedEventCache = new WeakMap<RecordedEvent, FeedEvent>();

/**
 * Yields every event that a reader asks for and may see, in log order, without end. While there is none, it yields an
 * empty batch about every second.
 * @throws KeyledgerError OTHER_LOG, UNAVAILABLE
 */
export async function* readFeed(
  projector: Projector,
  { after, canSee, types }: FeedQuery,
  signal: AbortSignal,
): AsyncGenerator<FeedBatch> {
  const skipTo = (position: Position | undefined) => projector.store.events.skipTo(position, canSee, types);
  for await (const { events, position, caughtUp } of projector.tail.read(after, signal, { skipTo, canSee })) {
    const wanted: FeedEvent[] = [];
    for (const recorded of events) {
      const { type } = recorded;
      if (types ? !types.has(type) : ONLY_BY_NAME.includes(type)) continue;
      const repoId = projector.store.repositoryIdOf(recorded);
      if (repoId !== undefined && canSee(repoId)) wanted.push(feedEvent(recorded, repoId));
    }
    yield { events: wanted, position, caughtUp };
  }
}

function feedEvent(recorded: RecordedEvent, repoId: string): FeedEvent {
  const cached = feedEventCache.get(recorded);
  if (cached) return cached;
  const event = cloudEvent(recorded, repoId);
  const converted = { event, position: recorded.position, json: JSON.stringify(event) };
  feedEventCache.set(recorded, converted);
  return converted;
}
