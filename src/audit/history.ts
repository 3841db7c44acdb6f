import type { Actor } from '../domain/access.js';
import { evolve, type State, streamOf } from '../domain/ai-api-key.js';
import type { AuditAccessed } from '../domain/audit-access.js';
import { decode, decodeAccess } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

type Value = string | number | null;

/** An event as it is told to whom audits; never secret material, sealed or hashed. */
export type HistoryEntry = {
  readonly id: string;
  readonly type: string;
  /** RFC 3339; when it was recorded, if the event cannot be read. */
  readonly at: string;
  /** Null if the event cannot be read. */
  readonly actor: Actor | null;
  readonly requestId: string | null;
  readonly apiKeyId: string | null;
  /** Of an event of a webhook. */
  readonly webhookId?: string;
  readonly revision: number;
  readonly position: Position;
  /** What it changed, from which value to which. */
  readonly changes: Readonly<Record<string, { readonly from: Value; readonly to: Value }>>;
  /** Of a suspension or deletion, if one was given. */
  readonly reason?: string | null;
  /** Why this release cannot read it. */
  readonly unreadable?: string;
  /** Of an AuditAccessed: what was looked at. */
  readonly accessed?: Pick<AuditAccessed['data'], 'access' | 'query' | 'from' | 'verified'>;
};

/** A key before an event of its stream, and the revision of that event. */
export type Before = { readonly state: State; readonly revision: number };

export const NOTHING_YET: Before = { state: undefined, revision: 0 };

/** Every event of a key, a deleted one too, oldest first; nothing if there is no such key. */
export async function* history(log: EventStore, apiKeyId: string): AsyncIterable<HistoryEntry> {
  let before = NOTHING_YET;
  for await (const recorded of log.readStream(streamOf(apiKeyId))) {
    const told = tell(before, recorded);
    before = told.after;
    yield told.entry;
  }
}

/** One event of a key's stream, and the key after it. */
export function tell(
  { state, revision: next }: Before,
  recorded: RecordedEvent,
): { readonly entry: HistoryEntry; readonly after: Before } {
  const { id, revision, position, type } = recorded;
  const event = decode(recorded, next);
  const after = evolve(state, event);
  const where = { id, type, at: event.occurredAt, apiKeyId: event.data.apiKeyId, revision, position };
  const changes = differences(told(state), told(after));
  return {
    entry:
      event.type === 'Unreadable'
        ? { ...where, actor: null, requestId: null, changes, unreadable: event.reason }
        : {
            ...where,
            actor: event.actor,
            requestId: event.requestId,
            changes,
            ...('reason' in event.data ? { reason: event.data.reason } : {}),
          },
    after: { state: after, revision: revision + 1 },
  };
}

/** Who looked, as the log has it. */
export function tellAccess(recorded: RecordedEvent): HistoryEntry {
  const { id, revision, position, type, recordedAt } = recorded;
  const event = decodeAccess(recorded);
  const where = { id, type, revision, position, changes: {} };
  if (typeof event === 'string') {
    const unknown = { at: recordedAt, actor: null, requestId: null, apiKeyId: null };
    return { ...where, ...unknown, unreadable: event };
  }
  const { apiKeyId, access, query, from, verified } = event.data;
  const { occurredAt: at, actor, requestId } = event;
  return { ...where, at, actor, requestId, apiKeyId, accessed: { access, query, from, verified } };
}

/** What may be told of a key: named one by one, so that no secret is told that somebody adds to it. */
const told = (key: State) => ({
  repoId: key?.repoId ?? null,
  name: key?.name ?? null,
  aiType: key?.aiType ?? null,
  key: key?.accessKey ?? null,
  status: key?.status ?? null,
  expiresAt: key?.expiresAt ?? null,
  secretVersion: key?.secretVersion ?? null,
  /** Until then the secret before this one is good too. */
  overlapEndsAt: key?.oldSecret?.goodUntil ?? null,
});

/** The facts that differ, from what to what. */
export function differences<Facts extends Readonly<Record<string, Value>>>(
  from: Facts,
  to: Facts,
): HistoryEntry['changes'] {
  const names = Object.keys(to) as (keyof Facts & string)[];
  return Object.fromEntries(
    names.flatMap((name) =>
      from[name] === to[name] ? [] : [[name, { from: from[name] as Value, to: to[name] as Value }]],
    ),
  );
}
