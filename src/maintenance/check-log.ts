import { isAuditAccessStream } from '../domain/audit-access.js';
import { webhookIdOf } from '../domain/webhook.js';
import { decodeAuditAccess, decodeWebhookEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from '../projections/api-key-index.js';
import { WebhookIndex } from '../projections/webhook-index.js';
import { foldStep } from './fold-key.js';

/** Something in the log is not as it must be. */
export type IntegrityViolation = {
  readonly stream: string;
  readonly revision: number;
  readonly position: Position;
  readonly type: string;
  readonly fault: string;
};

export type CheckedLog = {
  readonly events: number;
  readonly faults: number;
  /** Of the last event; undefined if there is none. */
  readonly position: Position | undefined;
  /** Every key as the log has it at that position. */
  readonly entries: ReadonlyMap<string, ApiKeyEntry>;
};

/**
 * Folds the whole log and looks at each event on the way: ids are unique, positions grow, revisions have no
 * gaps, every event decodes, every fold succeeds.
 * @param foreign called with each event that no release of ours can have written, which is no fault
 */
export async function checkLog(
  log: EventStore,
  found: (fault: IntegrityViolation) => void,
  passed: (event: RecordedEvent) => void,
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
      found({ stream, revision, position: recorded.position, type, fault });
    };
    if (ids.has(recorded.id)) reportFault(`its id ${recorded.id} is that of another event too`);
    ids.add(recorded.id);
    if (position !== undefined && recorded.position <= position) reportFault(`it comes after ${position}`);
    reportFault(validateEvent(entries, webhooks, recorded));
    position = recorded.position;
    events++;
    passed(recorded);
  }
  return { events, faults, position, entries };
}

/** Folds the event in. @returns what is wrong with it */
function validateEvent(
  entries: Map<string, ApiKeyEntry>,
  webhooks: WebhookIndex,
  recorded: RecordedEvent,
): string | undefined {
  if (isAuditAccessStream(recorded.stream)) {
    const access = decodeAuditAccess(recorded);
    if (recorded.revision !== 0) return `revision ${recorded.revision} in a stream of one event`;
    return typeof access === 'string' ? access : undefined;
  }
  if (webhookIdOf(recorded.stream) !== undefined) return validateWebhookEvent(webhooks, recorded);
  const before = entries.get(recorded.stream);
  const { entry, fault } = foldStep(before, recorded);
  entries.set(recorded.stream, entry);
  return fault;
}

function validateWebhookEvent(webhooks: WebhookIndex, recorded: RecordedEvent): string | undefined {
  const before = webhooks.entryOf(webhookIdOf(recorded.stream) ?? '');
  const event = decodeWebhookEvent(recorded, before ? before.revision + 1 : 0);
  const after = webhooks.apply(recorded);
  if (event.type === 'Unreadable') return event.reason;
  const breaks = after?.webhook.status === 'unavailable' && before?.webhook.status !== 'unavailable';
  return breaks ? `${event.type} makes no sense where it stands` : undefined;
}
