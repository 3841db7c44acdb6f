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
const PUBLIC_FIELDS = [
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

const CAUSATION_COLUMNS = ['actorIssuer', 'actorSubject', 'requestId'] as const;
const LOCATION_COLUMNS = [
  'position',
  'stream',
  'revision',
  'id',
  'type',
  'occurredAt',
  'recordedAt',
] as const;
const COLUMNS = [...LOCATION_COLUMNS, ...CAUSATION_COLUMNS, ...PUBLIC_FIELDS, 'unreadable'] as const;

type CellValue = string | number | boolean | null;
type Row = { readonly [name in (typeof COLUMNS)[number]]?: CellValue | undefined };

/** RFC 4180: a line of names, then a line an event; values that a spreadsheet would take for formulas begin with '. */
export async function* csvLines(events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  yield csvLine(COLUMNS);
  for await (const recorded of events) {
    const row: Row = { ...locationColumns(recorded), ...payloadColumns(recorded) };
    yield csvLine(COLUMNS.map((name) => row[name]));
  }
}

const csvLine = (values: readonly (CellValue | undefined)[]): string =>
  `${values.map(csvValue).join(',')}\r\n`;

/**
 * Where a spreadsheet would see the beginning of a formula, also behind what it may leave away, and behind
 * what it may take for the end of a value (https://owasp.org/www-community/attacks/CSV_Injection).
 */
const FORMULA = /(?<=^|[,;\t\r\n])(?=[\s\p{C}]*[=+\-@＝＋－＠]|[\t\r\n])/gu;

function csvValue(value: CellValue | undefined): string {
  if (value === undefined || value === null) return '';
  const text = typeof value === 'string' ? value.replace(FORMULA, "'") : String(value);
  return /[",;'\s]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** CloudEvents, one event a line. */
export async function* cloudEventLines(events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  for await (const recorded of events) yield `${JSON.stringify(cloudEvent(recorded))}\n`;
}

const locationColumns = (recorded: RecordedEvent): Row => {
  const { position, stream, revision, id, type, recordedAt } = recorded;
  return { position, stream, revision, id, type, occurredAt: occurredAtOf(recorded), recordedAt };
};

function payloadColumns(recorded: RecordedEvent): Row {
  const event = decodeReadable(recorded);
  if (typeof event === 'string') return { unreadable: event };
  const { actor, requestId } = event;
  const data: { readonly [name in (typeof PUBLIC_FIELDS)[number]]?: unknown } = event.data;
  const fields = PUBLIC_FIELDS.flatMap((name) => {
    const cell = data[name];
    if (cell === undefined) return [];
    return [[name, typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : cell]];
  });
  return { actorIssuer: actor.issuer, actorSubject: actor.subject, requestId, ...Object.fromEntries(fields) };
}

/** The event, or why it cannot be read. */
function decodeReadable(recorded: RecordedEvent) {
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
