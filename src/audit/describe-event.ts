import type { AuditAccessed } from '../domain/audit-access.js';
import type { Actor } from '../domain/authorization.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

type Value = string | number | null;
type AuditFields = Readonly<Record<string, Value>>;

/** Auditor's view of an event, without secret material, whether sealed or hashed. */
export type HistoryEntry = {
  readonly id: string;
  readonly type: string;
  /** RFC 3339; the time of recording if the event is unreadable. */
  readonly at: string;
  /** Null if the event is unreadable. */
  readonly actor: Actor | null;
  readonly requestId: string | null;
  readonly apiKeyId: string | null;
  /** For an event of a webhook. */
  readonly webhookId?: string;
  readonly revision: number;
  readonly position: Position;
  /** Changed fields, each with its old and its new value. */
  readonly changes: Readonly<Record<string, { readonly from: Value; readonly to: Value }>>;
  /** For a suspension, pause or deletion with a reason. */
  readonly reason?: string | null;
  /** Reason why this release cannot read the event. */
  readonly unreadable?: string;
  /** For AuditAccessed: the query, and where it came from. */
  readonly accessed?: Pick<AuditAccessed['data'], 'access' | 'query' | 'from' | 'verified'>;
};

/** State of a stream before one of its events, and the revision of that event. */
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
 * Creates a function that describes one event of a stream, and returns the state after it.
 * @param decode decodes an event of the stream
 * @param evolve folds an event into the state
 * @param auditFields fields that an auditor may see: an explicit list, so that it never includes a secret added later
 * @param about id of the key or webhook that the event belongs to
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

/** Fields that differ, with both values. */
function differences(from: AuditFields, to: AuditFields): HistoryEntry['changes'] {
  return Object.fromEntries(
    Object.entries(to).flatMap(([name, value]) => {
      const before = from[name] ?? null;
      return before === value ? [] : [[name, { from: before, to: value }]];
    }),
  );
}
