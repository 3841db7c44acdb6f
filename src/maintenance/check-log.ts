import { decodeAuditAccess, decodeWebhookEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { classifyStream } from '../event-store/streams.js';
import type { ApiKeyEntry } from '../projections/api-key-index.js';
import { WebhookIndex } from '../projections/webhook-index.js';
import { foldStep } from './fold-key.js';

/** Violation of an invariant of the log. */
export type IntegrityFault = {
  readonly stream: string;
  readonly revision: number;
  readonly position: Position;
  readonly type: string;
  readonly fault: string;
};

export type CheckedLog = {
  readonly events: number;
  readonly faults: number;
  /** Position of the last event; undefined if there is none. */
  readonly position: Position | undefined;
  /** Every key in the log as of that position. */
  readonly entries: ReadonlyMap<string, ApiKeyEntry>;
};

/**
 * Folds the whole log and checks each event: ids are unique, positions grow, revisions have no gaps, every event
 * decodes, every fold succeeds.
 * @param onViolation called with each violation
 * @param onChecked called with each event after its checks
 * @param foreign called with each event that no release of Keyledger can have written, which is no violation
 */
export async function checkLog(
  log: EventStore,
  onViolation: (fault: IntegrityFault) => void,
  onChecked: (event: RecordedEvent) => void,
  foreign: (event: RecordedEvent) => void,
): Promise<CheckedLog> {
  const entries = new Map<string, ApiKeyEntry>();
  const webhooks = new WebhookIndex();
  const ids = new Set<string>();
  let events = 0;
  let faults = 0;
  let position: Position | undefined;
  for await (const recorded of log.readAll(undefined, foreign)) {
    const reportFault = (fault: string | undefined) => {
      if (fault === undefined) return;
      faults++;
      const { stream, revision, type } = recorded;
      onViolation({ stream, revision, position: recorded.position, type, fault });
    };
    if (ids.has(recorded.id)) reportFault(`its id ${recorded.id} is also that of another event`);
    ids.add(recorded.id);
    if (position !== undefined && recorded.position <= position)
      reportFault(`its position does not follow ${position}`);
    reportFault(validateEvent(entries, webhooks, recorded));
    position = recorded.position;
    events++;
    onChecked(recorded);
  }
  return { events, faults, position, entries };
}

/**
 * Folds an event.
 * @returns what is wrong with it
 */
function validateEvent(
  entries: Map<string, ApiKeyEntry>,
  webhooks: WebhookIndex,
  recorded: RecordedEvent,
): string | undefined {
  const ref = classifyStream(recorded.stream);
  switch (ref?.kind) {
    case 'audit-access':
      return validateAuditAccess(recorded);
    case 'webhook':
      return validateWebhookEvent(webhooks, ref.id, recorded);
    default: {
      const { entry, fault } = foldStep(entries.get(recorded.stream), recorded);
      entries.set(recorded.stream, entry);
      return fault;
    }
  }
}

function validateAuditAccess(recorded: RecordedEvent): string | undefined {
  if (recorded.revision !== 0) return `revision ${recorded.revision} in a stream of one event`;
  const event = decodeAuditAccess(recorded);
  return event.type === 'Unreadable' ? event.reason : undefined;
}

function validateWebhookEvent(webhooks: WebhookIndex, webhookId: string, recorded: RecordedEvent): string | undefined {
  const before = webhooks.entryOf(webhookId);
  const event = decodeWebhookEvent(recorded, before ? before.revision + 1 : 0);
  const after = webhooks.apply(recorded);
  if (event.type === 'Unreadable') return event.reason;
  const breaks = after?.webhook.status === 'unavailable' && before?.webhook.status !== 'unavailable';
  return breaks ? `${event.type} is impossible at this point of the stream` : undefined;
}
