import { z } from 'zod';
import { type ApiKeyEvent, apiKeyIdOf, type Occurred, type Unreadable } from '../domain/ai-api-key.js';
import type { AuditAccessed } from '../domain/audit-access.js';
import type { Actor } from '../domain/authorization.js';
import {
  type ImportOrigin,
  type UnreadableWebhook,
  type WebhookEvent,
  webhookIdOf,
} from '../domain/webhook.js';
import {
  API_KEY_EVENT_SCHEMAS,
  AUDIT_ACCESS_SCHEMAS,
  type DomainEvent,
  type EventSchema,
  schemaVersionOf,
  timestamp,
  WEBHOOK_EVENT_SCHEMAS,
} from './event-schemas.js';
import type { NewEvent, RecordedEvent } from './event-store.js';

/** The boundary between the log's JSON and the domain's events. */

const Metadata = z.object({
  schemaVersion: z.int().min(1),
  occurredAt: timestamp,
  actor: z.object({ issuer: z.string(), subject: z.string() }),
  requestId: z.string(),
  $correlationId: z.string(),
  $causationId: z.string(),
});

/** Who and what caused an event. Ids only: the log is kept for ever. */
export type Causation = { readonly actor: Actor; readonly requestId: string; readonly commandId: string };

/** A domain event as the log takes it. */
export function encode(event: DomainEvent, id: string, occurredAt: string, cause: Causation): NewEvent {
  return {
    id,
    type: event.type,
    data: event.data,
    metadata: {
      schemaVersion: schemaVersionOf(event.type),
      occurredAt,
      actor: cause.actor,
      requestId: cause.requestId,
      $correlationId: cause.requestId,
      $causationId: cause.commandId,
    } satisfies z.infer<typeof Metadata>,
  };
}

type Caused = { readonly actor: Actor; readonly requestId: string };
export type DecodedApiKeyEvent = Occurred<ApiKeyEvent> & Caused;
export type DecodedWebhookEvent = Occurred<WebhookEvent> & Caused & ImportOrigin;
export type DecodedAuditAccess = Occurred<AuditAccessed> & Caused;

/**
 * The domain event that a recorded event holds; Unreadable, with the reason, if this release cannot
 * tell (unknown type or later version, wrong shape, another key's event in this key's stream, events
 * missing before it).
 * @param revision the one that must come next in its stream
 * @throws RangeError the stream belongs to no key
 */
export function decodeApiKeyEvent(
  recorded: RecordedEvent,
  revision: number,
): DecodedApiKeyEvent | Occurred<Unreadable> {
  const apiKeyId = apiKeyIdOf(recorded.stream);
  if (!apiKeyId) throw new RangeError(`${recorded.stream} is the stream of no key`);
  const unreadable = (reason: string): Occurred<Unreadable> => ({
    type: 'Unreadable',
    reason,
    data: { apiKeyId, repoId: RepoIdOnly.safeParse(recorded.data).data?.repoId },
    occurredAt: firstRecordedAt(recorded),
  });

  if (recorded.revision !== revision) return unreadable(gapReason(recorded, revision));
  const read = decodeWith<ApiKeyEvent>(API_KEY_EVENT_SCHEMAS, recorded);
  if (typeof read === 'string') return unreadable(read);
  if (read.data.apiKeyId !== apiKeyId) return unreadable(`data of another key, ${read.data.apiKeyId}`);
  return read as DecodedApiKeyEvent;
}

/**
 * The same for an event of a webhook's stream.
 * @throws RangeError the stream belongs to no webhook
 */
export function decodeWebhookEvent(
  recorded: RecordedEvent,
  revision: number,
): DecodedWebhookEvent | (Occurred<UnreadableWebhook> & ImportOrigin) {
  const webhookId = webhookIdOf(recorded.stream);
  if (!webhookId) throw new RangeError(`${recorded.stream} is the stream of no webhook`);
  const imported = isImported(recorded);
  const unreadable = (reason: string): Occurred<UnreadableWebhook> & ImportOrigin => ({
    type: 'Unreadable',
    reason,
    data: { webhookId, repoId: RepoIdOnly.safeParse(recorded.data).data?.repoId },
    occurredAt: firstRecordedAt(recorded),
    imported,
  });

  if (recorded.revision !== revision) return unreadable(gapReason(recorded, revision));
  const read = decodeWith<WebhookEvent>(WEBHOOK_EVENT_SCHEMAS, recorded);
  if (typeof read === 'string') return unreadable(read);
  if (read.data.webhookId !== webhookId) return unreadable(`data of another webhook, ${read.data.webhookId}`);
  return { ...read, imported } as DecodedWebhookEvent;
}

const gapReason = (recorded: RecordedEvent, revision: number) =>
  `revision ${recorded.revision} instead of ${revision}`;

/** Who looked at what; the reason if this release cannot tell. */
export function decodeAuditAccess(recorded: RecordedEvent): DecodedAuditAccess | string {
  const read = decodeWith<AuditAccessed>(AUDIT_ACCESS_SCHEMAS, recorded);
  return typeof read === 'string' ? read : (read as DecodedAuditAccess);
}

/** Type, data as of the latest version, and what is known of its cause; or why it cannot be read. */
function decodeWith<E extends DomainEvent>(
  schemas: { readonly [T in E['type']]: unknown },
  recorded: RecordedEvent,
) {
  const type = recorded.type as E['type'];
  if (!Object.hasOwn(schemas, type)) return `unknown event type ${type}`;
  const schema = schemas[type] as EventSchema<E>;
  const metadata = Metadata.safeParse(recorded.metadata);
  if (!metadata.success) return `metadata: ${z.prettifyError(metadata.error)}`;
  const { schemaVersion: version, occurredAt, actor, requestId } = metadata.data;
  if (version > schemaVersionOf(type)) {
    return `${type} of schema version ${version}; this release knows ${schemaVersionOf(type)}`;
  }
  const upcasters = schema.upcasters.slice(version - 1);
  const data = schema.data.safeParse(upcasters.reduce((older, upcast) => upcast(older), recorded.data));
  if (!data.success) return `data: ${z.prettifyError(data.error)}`;
  return { type, data: data.data, occurredAt, actor, requestId };
}

const Imported = z.object({ importedFrom: z.object({ recordedAt: timestamp }) });

const isImported = ({ metadata }: RecordedEvent): boolean =>
  typeof metadata === 'object' && metadata !== null && 'importedFrom' in metadata;

/** When the event came into the log, or into the first one if this is a copy: copies answer as it does. */
export const firstRecordedAt = ({ metadata, recordedAt }: RecordedEvent): string =>
  Imported.safeParse(metadata).data?.importedFrom.recordedAt ?? recordedAt;

const OccurredAtOnly = z.object({ occurredAt: timestamp });

/** When the event occurred, where that can be told of one that may be unreadable; else when it was recorded. */
export const occurredAtOf = (recorded: RecordedEvent): string =>
  OccurredAtOnly.safeParse(recorded.metadata).data?.occurredAt ?? firstRecordedAt(recorded);

/** Who caused an event, and what it is about, where that can be told of one that may be unreadable. */
export function peekEvent({ data, metadata }: RecordedEvent): {
  readonly subject: string | undefined;
  readonly apiKeyId: string | undefined;
  readonly repoId: string | undefined;
} {
  const text = (value: unknown, field: string): string | undefined => {
    const said = (value as Readonly<Record<string, unknown>> | null | undefined)?.[field];
    return typeof said === 'string' ? said : undefined;
  };
  const actor = (metadata as { actor?: unknown } | null | undefined)?.actor;
  return { subject: text(actor, 'subject'), apiKeyId: text(data, 'apiKeyId'), repoId: text(data, 'repoId') };
}

const RepoIdOnly = z.object({ repoId: z.string() });
