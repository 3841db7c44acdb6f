import { cloudEvent } from '../event-store/cloud-event.js';
import { decodeAny } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import { occurredAtOf } from '../event-store/peek-event.js';

/**
 * Exports for auditors' tools, without secret material, whether sealed or hashed: an explicit list of fields, so that
 * it never includes a secret added to an event later.
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
const LOCATION_COLUMNS = ['position', 'stream', 'revision', 'id', 'type', 'occurredAt', 'recordedAt'] as const;
const COLUMNS = [...LOCATION_COLUMNS, ...CAUSATION_COLUMNS, ...PUBLIC_FIELDS, 'unreadable'] as const;

type CellValue = string | number | boolean | null;
type Row = { readonly [name in (typeof COLUMNS)[number]]?: CellValue | undefined };

/**
 * RFC 4180: a header line, then a line per event; prefixes values that a spreadsheet would treat as formulas with '.
 */
export async function* csvLines(events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  yield csvLine(COLUMNS);
  for await (const recorded of events) {
    const row: Row = { ...locationColumns(recorded), ...payloadColumns(recorded) };
    yield csvLine(COLUMNS.map((name) => row[name]));
  }
}

const csvLine = (values: readonly (CellValue | undefined)[]): string => `${values.map(csvValue).join(',')}\r\n`;

/**
 * Places where a spreadsheet would see the beginning of a formula, also after characters that it may ignore, and after
 * those that it may treat as the end of a value (https://owasp.org/www-community/attacks/CSV_Injection).
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
  const { event } = decodeAny(recorded);
  if (event.type === 'Unreadable') return { unreadable: event.reason };
  const { actor, requestId } = event;
  const data: { readonly [name in (typeof PUBLIC_FIELDS)[number]]?: unknown } = event.data;
  const fields = PUBLIC_FIELDS.flatMap((name) => {
    const cell = data[name];
    if (cell === undefined) return [];
    return [[name, typeof cell === 'object' && cell !== null ? JSON.stringify(cell) : cell]];
  });
  return { actorIssuer: actor.issuer, actorSubject: actor.subject, requestId, ...Object.fromEntries(fields) };
}
