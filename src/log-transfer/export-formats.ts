import { isAuditAccessStream } from '../domain/audit-access.js';
import { webhookIdOf } from '../domain/webhook.js';
import { cloudEvent } from '../event-store/cloud-event.js';
import {
  decodeApiKeyEvent,
  decodeAuditAccess,
  decodeWebhookEvent,
  occurredAtOf,
} from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';

/**
 * Exports for auditors' tools. They hold no secret material, sealed or hashed: what they say of an event is
 * a list of what may be said, so that no secret is said that somebody adds to an event.
 */
const SAID = [
  'repoId',
  'apiKeyId',
  'name',
  'aiType',
  'accessKey',
  'expiresAt',
  'secretVersion',
  'overlapEndsAt',
  'reason',
  'webhookId',
  'url',
  'types',
  'description',
  'cause',
  'after',
  'access',
  'query',
  'from',
  'verified',
] as const;

const CAUSE = ['actorIssuer', 'actorSubject', 'requestId'] as const;
const PLACE = ['position', 'stream', 'revision', 'id', 'type', 'occurredAt', 'recordedAt'] as const;
const COLUMNS = [...PLACE, ...CAUSE, ...SAID, 'unreadable'] as const;

type Fact = string | number | boolean | null;
type Facts = { readonly [name in (typeof COLUMNS)[number]]?: Fact | undefined };

/** RFC 4180: a line of names, then a line an event; values that a spreadsheet would take for formulas begin with '. */
export async function* csvLines(events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  yield csvLine(COLUMNS);
  for await (const recorded of events) {
    const facts: Facts = { ...placeOf(recorded), ...factsOf(recorded) };
    yield csvLine(COLUMNS.map((name) => facts[name]));
  }
}

const csvLine = (values: readonly (Fact | undefined)[]): string => `${values.map(csvValue).join(',')}\r\n`;

/**
 * Where a spreadsheet would see the beginning of a formula, also behind what it may leave away, and behind
 * what it may take for the end of a value (https://owasp.org/www-community/attacks/CSV_Injection).
 */
const FORMULA = /(?<=^|[,;\t\r\n])(?=[\s\p{C}]*[=+\-@＝＋－＠]|[\t\r\n])/gu;

function csvValue(value: Fact | undefined): string {
  if (value === undefined || value === null) return '';
  const text = typeof value === 'string' ? value.replace(FORMULA, "'") : String(value);
  return /[",;'\s]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** CloudEvents, one event a line. */
export async function* cloudEventLines(events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  for await (const recorded of events) yield `${JSON.stringify(cloudEvent(recorded))}\n`;
}

const placeOf = (recorded: RecordedEvent): Facts => {
  const { position, stream, revision, id, type, recordedAt } = recorded;
  return { position, stream, revision, id, type, occurredAt: occurredAtOf(recorded), recordedAt };
};

function factsOf(recorded: RecordedEvent): Facts {
  const event = readable(recorded);
  if (typeof event === 'string') return { unreadable: event };
  const { actor, requestId } = event;
  const data: { readonly [name in (typeof SAID)[number]]?: unknown } = event.data;
  const said = SAID.flatMap((name) => {
    const fact = data[name];
    if (fact === undefined) return [];
    return [[name, typeof fact === 'object' && fact !== null ? JSON.stringify(fact) : fact]];
  });
  return { actorIssuer: actor.issuer, actorSubject: actor.subject, requestId, ...Object.fromEntries(said) };
}

/** The event, or why it cannot be read. */
function readable(recorded: RecordedEvent) {
  const { stream, revision } = recorded;
  if (isAuditAccessStream(stream)) return decodeAuditAccess(recorded);
  if (webhookIdOf(stream) !== undefined) {
    const event = decodeWebhookEvent(recorded, revision);
    return event.type === 'Unreadable' ? event.reason : event;
  }
  try {
    const event = decodeApiKeyEvent(recorded, revision);
    return event.type === 'Unreadable' ? event.reason : event;
  } catch (error) {
    return (error as Error).message;
  }
}
