import { z } from 'zod';
import { AI_TYPES, type ApiKeyEvent, DELETION_REASONS } from '../domain/ai-api-key.js';
import { AUDIT_ACCESS_KINDS, type AuditAccessed } from '../domain/audit-access.js';
import { PAUSE_CAUSES, type WebhookEvent } from '../domain/webhook.js';

export type DomainEvent = ApiKeyEvent | WebhookEvent | AuditAccessed;

/**
 * Turns data of one schema version into data of the next. It receives any JSON that the log holds and never throws: the
 * schema validates its result.
 */
type Upcaster = (data: unknown) => unknown;

/** How one type of event is stored. A new shape is a new version: one more upcaster. */
export type EventSchema<E extends DomainEvent> = {
  /** The upcaster at index n turns version n + 1 into version n + 2. None: there is only version 1. */
  readonly upcasters?: readonly Upcaster[];
  /** Shape of the latest version. */
  readonly data: z.ZodType<E['data']>;
  /** Fields that subscribers see. Each is named, so that a new secret field stays private. */
  readonly publicFields: readonly (keyof E['data'])[];
};
type SchemasOf<E extends DomainEvent> = { readonly [T in E['type']]: EventSchema<Extract<E, { type: T }>> };

const key = { apiKeyId: z.string(), repoId: z.string() };
const secret = {
  secretHash: z.string(),
  sealedSecret: z.string(),
  idempotency: z.object({ keyHash: z.string(), requestHash: z.string() }).optional(),
};
/** RFC 3339 in UTC, of one width, so that times compare as text. */
export const timestamp = z.iso.datetime({ precision: 3 });
const rotation = { ...secret, secretVersion: z.int().min(2), overlapEndsAt: timestamp.nullable() };
const withFields =
  (fields: object): Upcaster =>
  (data) => ({ ...(data as object), ...fields });

export const API_KEY_EVENT_SCHEMAS: SchemasOf<ApiKeyEvent> = {
  ApiKeyCreated: {
    upcasters: [withFields({ expiresAt: null })],
    data: z.object({
      ...key,
      ...secret,
      name: z.string(),
      aiType: z.enum(AI_TYPES),
      accessKey: z.string(),
      expiresAt: timestamp.nullable(),
    }),
    publicFields: ['name', 'aiType', 'accessKey', 'expiresAt'],
  },
  ApiKeyRenamed: { data: z.object({ ...key, name: z.string() }), publicFields: ['name'] },
  ApiKeySecretRotated: {
    data: z.object({ ...key, ...rotation }),
    publicFields: ['secretVersion', 'overlapEndsAt'],
  },
  ApiKeyExpiryChanged: {
    data: z.object({ ...key, expiresAt: timestamp.nullable() }),
    publicFields: ['expiresAt'],
  },
  ApiKeySuspended: { data: z.object({ ...key, reason: z.string().nullable() }), publicFields: ['reason'] },
  ApiKeyResumed: { data: z.object(key), publicFields: [] },
  ApiKeyDeleted: {
    upcasters: [withFields({ reason: 'requested' })],
    data: z.object({ ...key, reason: z.enum(DELETION_REASONS) }),
    publicFields: ['reason'],
  },
};

const webhook = { webhookId: z.string(), repoId: z.string() };
const endpoint = {
  url: z.string(),
  types: z.array(z.string()).nullable(),
  description: z.string().nullable(),
};
const ENDPOINT_FIELDS = ['url', 'types', 'description'] as const;

export const WEBHOOK_EVENT_SCHEMAS: SchemasOf<WebhookEvent> = {
  WebhookRegistered: {
    data: z.object({ ...webhook, ...endpoint, ...secret }),
    publicFields: ENDPOINT_FIELDS,
  },
  WebhookChanged: { data: z.object({ ...webhook, ...endpoint }), publicFields: ENDPOINT_FIELDS },
  WebhookSecretRotated: {
    data: z.object({ ...webhook, ...rotation }),
    publicFields: ['secretVersion', 'overlapEndsAt'],
  },
  WebhookPaused: {
    data: z.object({ ...webhook, cause: z.enum(PAUSE_CAUSES), reason: z.string().nullable() }),
    publicFields: ['cause', 'reason'],
  },
  WebhookResumed: { data: z.object(webhook), publicFields: [] },
  WebhookReplayed: {
    data: z.object({ ...webhook, after: z.string().nullable() }),
    publicFields: ['after'],
  },
  WebhookDeleted: { data: z.object(webhook), publicFields: [] },
};

export const AUDIT_ACCESS_SCHEMAS: SchemasOf<AuditAccessed> = {
  AuditAccessed: {
    data: z.object({
      access: z.enum(AUDIT_ACCESS_KINDS),
      repoId: z.string().nullable(),
      apiKeyId: z.string().nullable(),
      query: z.record(z.string(), z.union([z.string(), z.number()])),
      from: z.string(),
      verified: z.boolean(),
    }),
    publicFields: ['access', 'query', 'from', 'verified'],
  },
};

const ALL: SchemasOf<DomainEvent> = {
  ...API_KEY_EVENT_SCHEMAS,
  ...WEBHOOK_EVENT_SCHEMAS,
  ...AUDIT_ACCESS_SCHEMAS,
};

export const EVENT_TYPES: readonly string[] = Object.keys(ALL);

/** The latest schema version of a type of event: the one that is written. */
export const schemaVersionOf = (type: DomainEvent['type']): number => (ALL[type].upcasters?.length ?? 0) + 1;

/** Names in the API of fields that the log names differently. */
const API_NAMES: Readonly<Record<string, string>> = { accessKey: 'key' };

/** The public fields of an event, by their names in the API: no ids and no secrets, neither sealed nor hashed. */
export function publicDataOf({ type, data }: DomainEvent): Readonly<Record<string, unknown>> {
  const fields: readonly string[] = ALL[type].publicFields;
  const values = data as Readonly<Record<string, unknown>>;
  return Object.fromEntries(fields.map((field) => [API_NAMES[field] ?? field, values[field]]));
}
