import type { AuditAccessed } from '../domain/audit-access.js';
import type { Actor } from '../domain/authorization.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

type Value = string | number | null;
type AuditFields = Readonly<Record<string, Value>>;

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
  /** Of a suspension, pause or deletion, if one was given. */
  readonly reason?: string | null;
  /** Why this release cannot read it. */
  readonly unreadable?: string;
  /** Of an AuditAccessed: what was looked at. */
  readonly accessed?: Pick<AuditAccessed['data'], 'access' | 'query' | 'from' | 'verified'>;
};

/** What a stream is about, before one of its events, and the revision of that event. */
export type FoldState<State> = { readonly state: State | undefined; readonly revision: number };

export const INITIAL_FOLD = { state: undefined, revision: 0 };

type DescribableEvent = {
  readonly type: string;
  readonly occurredAt: string;
  readonly data: object;
  readonly actor?: Actor;
  readonly requestId?: string;
  readonly reason?: string;
};

/**
 * What tells one event of a stream, and what the stream is about after it.
 * @param facts what may be told of it: named one by one, so that no secret is told that somebody adds to it
 * @param about whose stream it is
 */
export const eventDescriber =
  <State, Event extends DescribableEvent>({
    decode,
    evolve,
    auditFields,
    about,
  }: {
    readonly decode: (recorded: RecordedEvent, revision: number) => Event;
    readonly evolve: (state: State | undefined, event: Event) => State;
    readonly auditFields: (state: State | undefined) => AuditFields;
    readonly about: (event: Event) => Pick<HistoryEntry, 'apiKeyId' | 'webhookId'>;
  }) =>
  (
    { state, revision: next }: FoldState<State>,
    recorded: RecordedEvent,
  ): { readonly entry: HistoryEntry; readonly after: FoldState<State> } => {
    const { id, revision, position, type } = recorded;
    const event = decode(recorded, next);
    const after = evolve(state, event);
    const changes = differences(auditFields(state), auditFields(after));
    const where = { id, type, at: event.occurredAt, ...about(event), revision, position, changes };
    const { actor = null, requestId = null } = event;
    const why =
      event.type === 'Unreadable'
        ? { unreadable: event.reason ?? '' }
        : 'reason' in event.data
          ? { reason: event.data.reason as string | null }
          : {};
    return {
      entry: { ...where, actor, requestId, ...why },
      after: { state: after, revision: revision + 1 },
    };
  };

/** The facts that differ, from what to what. */
function differences(from: AuditFields, to: AuditFields): HistoryEntry['changes'] {
  return Object.fromEntries(
    Object.entries(to).flatMap(([name, value]) => {
      const before = from[name] ?? null;
      return before === value ? [] : [[name, { from: before, to: value }]];
    }),
  );
}
