import { z } from 'zod';
import type { ApiKeyEvent, Occurred, UnreadableApiKeyEvent } from '../domain/ai-api-key.js';
import type { AuditAccessed } from '../domain/audit-access.js';
import type { Actor } from '../domain/authorization.js';
import type { ImportOrigin, UnreadableWebhookEvent, WebhookEvent } from '../domain/webhook.js';
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
import { firstRecordedAt, isImported, peekEvent } from './peek-event.js';
import { classifyStream } from './streams.js';

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

/** Encodes a domain event for the log. */
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
/** An event that this release cannot decode, and why. */
type UnreadableEvent = Occurred<{
  readonly type: 'Unreadable';
  readonly reason: string;
  readonly data: { readonly repoId?: string | undefined };
}>;
export type DecodedApiKeyEvent = Occurred<ApiKeyEvent> & Caused;
export type DecodedWebhookEvent = Occurred<WebhookEvent> & Caused & ImportOrigin;
export type DecodedAuditAccess = Occurred<AuditAccessed> & Caused;

/**
 * Decodes an event of an API key's stream: the domain event, or `Unreadable` with the reason (unknown type, later
 * schema version, wrong shape, data of another key, missing events before it).
 * @param revision the revision that comes next in the stream
 * @throws RangeError the stream is not that of an API key
 */
export function decodeApiKeyEvent(
  recorded: RecordedEvent,
  revision: number,
): DecodedApiKeyEvent | Occurred<UnreadableApiKeyEvent> {
  const apiKeyId = idOf(recorded, 'api-key');
  const event = decodeWith<ApiKeyEvent>(API_KEY_EVENT_SCHEMAS, recorded, revision);
  if (event.type === 'Unreadable') return { ...event, data: { ...event.data, apiKeyId } };
  if (event.data.apiKeyId === apiKeyId) return event as DecodedApiKeyEvent;
  const { data, ...rest } = unreadable(recorded, `data of another key, ${event.data.apiKeyId}`);
  return { ...rest, data: { ...data, apiKeyId } };
}

/**
 * Decodes an event of a webhook's stream, as `decodeApiKeyEvent`.
 * @throws RangeError the stream is not that of a webhook
 */
export function decodeWebhookEvent(
  recorded: RecordedEvent,
  revision: number,
): DecodedWebhookEvent | (Occurred<UnreadableWebhookEvent> & ImportOrigin) {
  const webhookId = idOf(recorded, 'webhook');
  const imported = isImported(recorded);
  const event = decodeWith<WebhookEvent>(WEBHOOK_EVENT_SCHEMAS, recorded, revision);
  if (event.type === 'Unreadable') return { ...event, data: { ...event.data, webhookId }, imported };
  if (event.data.webhookId === webhookId) return { ...event, imported } as DecodedWebhookEvent;
  const { data, ...rest } = unreadable(recorded, `data of another webhook, ${event.data.webhookId}`);
  return { ...rest, data: { ...data, webhookId }, imported };
}

/** Decodes an access to the audit trail; `Unreadable` with the reason if this release cannot. */
export function decodeAuditAccess(recorded: RecordedEvent): DecodedAuditAccess | UnreadableEvent {
  const event = decodeWith<AuditAccessed>(AUDIT_ACCESS_SCHEMAS, recorded, recorded.revision);
  return event.type === 'Unreadable' ? { ...event, occurredAt: recorded.recordedAt } : (event as DecodedAuditAccess);
}

/** An event of any kind of stream, with what its stream records. */
export type DecodedEvent =
  | { readonly kind: 'api-key'; readonly id: string; readonly event: ReturnType<typeof decodeApiKeyEvent> }
  | { readonly kind: 'webhook'; readonly id: string; readonly event: ReturnType<typeof decodeWebhookEvent> }
  | {
      readonly kind: 'audit-access';
      readonly id: string;
      readonly event: ReturnType<typeof decodeAuditAccess>;
    };

/**
 * Decodes an event of any stream, as if no event before it were missing.
 * @throws RangeError the stream is foreign
 */
export function decodeAny(recorded: RecordedEvent): DecodedEvent {
  const { revision, stream } = recorded;
  const ref = classifyStream(stream);
  switch (ref?.kind) {
    case 'api-key':
      return { kind: ref.kind, id: ref.id, event: decodeApiKeyEvent(recorded, revision) };
    case 'webhook':
      return { kind: ref.kind, id: ref.id, event: decodeWebhookEvent(recorded, revision) };
    case 'audit-access':
      return { kind: ref.kind, id: ref.id, event: decodeAuditAccess(recorded) };
    case undefined:
      throw new RangeError(`${stream} is not a stream of Keyledger`);
  }
}

function idOf({ stream }: RecordedEvent, kind: DecodedEvent['kind']): string {
  const ref = classifyStream(stream);
  if (ref?.kind === kind) return ref.id;
  throw new RangeError(`${stream} is not the stream of ${kind === 'api-key' ? 'an API key' : 'a webhook'}`);
}

const unreadable = (recorded: RecordedEvent, reason: string): UnreadableEvent => ({
  type: 'Unreadable',
  reason,
  data: { repoId: peekEvent(recorded).repoId },
  occurredAt: firstRecordedAt(recorded),
});

/** Type, data of the latest schema version, time and causation; or why this release cannot read the event. */
function decodeWith<E extends DomainEvent>(
  schemas: { readonly [T in E['type']]: unknown },
  recorded: RecordedEvent,
  revision: number,
): (Occurred<{ readonly type: E['type']; readonly data: E['data'] }> & Caused) | UnreadableEvent {
  if (recorded.revision !== revision) {
    return unreadable(recorded, `revision ${recorded.revision} instead of ${revision}`);
  }
  const type = recorded.type as E['type'];
  if (!Object.hasOwn(schemas, type)) return unreadable(recorded, `unknown event type ${type}`);
  const schema = schemas[type] as EventSchema<E>;
  const metadata = Metadata.safeParse(recorded.metadata);
  if (!metadata.success) return unreadable(recorded, `metadata: ${z.prettifyError(metadata.error)}`);
  const { schemaVersion: version, occurredAt, actor, requestId } = metadata.data;
  const latest = schemaVersionOf(type);
  if (version > latest) {
    return unreadable(recorded, `${type} of schema version ${version}; this release knows ${latest}`);
  }
  const upcasters = (schema.upcasters ?? []).slice(version - 1);
  const data = schema.data.safeParse(upcasters.reduce((older, upcast) => upcast(older), recorded.data));
  if (!data.success) return unreadable(recorded, `data: ${z.prettifyError(data.error)}`);
  return { type, data: data.data, occurredAt, actor, requestId };
}
