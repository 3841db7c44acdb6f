import { z } from 'zod';
import { AI_TYPES, API_KEY_CATEGORY, type ApiKeyEvent, DELETION_REASONS } from '../domain/ai-api-key.js';
import { AUDIT_ACCESS_CATEGORY, AUDIT_ACCESS_KINDS, type AuditAccessed } from '../domain/audit-access.js';
import { PAUSE_CAUSES, WEBHOOK_CATEGORY, type WebhookEvent } from '../domain/webhook.js';

/**
 * One schema and one version for each type of event. A new shape is a new version; the upcaster at index n lifts data
 * of version n + 1 to version n + 2. It is given whatever JSON is there, and never throws: the schema
 * judges what comes out.
 */
type Upcaster = (data: unknown) => unknown;
export type DomainEvent = ApiKeyEvent | WebhookEvent | AuditAccessed;
export type EventSchema<E extends DomainEvent> = {
  readonly upcasters: readonly Upcaster[];
  readonly data: z.ZodType<E['data']>;
};
type SchemasOf<E extends DomainEvent> = { readonly [T in E['type']]: EventSchema<Extract<E, { type: T }>> };

const key = { apiKeyId: z.string(), repoId: z.string() };
const secret = {
  secretHash: z.string(),
  sealedSecret: z.string(),
  idempotency: z.object({ keyHash: z.string(), requestHash: z.string() }).optional(),
};
/** Times are compared, so they have one width. */
export const timestamp = z.iso.datetime({ precision: 3 });
const adding =
  (fields: object): Upcaster =>
  (data) => ({ ...(data as object), ...fields });

export const API_KEY_EVENT_SCHEMAS: SchemasOf<ApiKeyEvent> = {
  ApiKeyCreated: {
    upcasters: [adding({ expiresAt: null })],
    data: z.object({
      ...key,
      ...secret,
      name: z.string(),
      aiType: z.enum(AI_TYPES),
      accessKey: z.string(),
      expiresAt: timestamp.nullable(),
    }),
  },
  ApiKeyRenamed: { upcasters: [], data: z.object({ ...key, name: z.string() }) },
  ApiKeySecretRotated: {
    upcasters: [],
    data: z.object({ ...key, ...secret, secretVersion: z.int().min(2), overlapEndsAt: timestamp.nullable() }),
  },
  ApiKeyExpiryChanged: { upcasters: [], data: z.object({ ...key, expiresAt: timestamp.nullable() }) },
  ApiKeySuspended: { upcasters: [], data: z.object({ ...key, reason: z.string().nullable() }) },
  ApiKeyResumed: { upcasters: [], data: z.object(key) },
  ApiKeyDeleted: {
    upcasters: [adding({ reason: 'requested' })],
    data: z.object({ ...key, reason: z.enum(DELETION_REASONS) }),
  },
};

const webhook = { webhookId: z.string(), repoId: z.string() };
const target = {
  url: z.string(),
  types: z.array(z.string()).nullable(),
  description: z.string().nullable(),
};

export const WEBHOOK_EVENT_SCHEMAS: SchemasOf<WebhookEvent> = {
  WebhookRegistered: { upcasters: [], data: z.object({ ...webhook, ...target, ...secret }) },
  WebhookChanged: { upcasters: [], data: z.object({ ...webhook, ...target }) },
  WebhookSecretRotated: {
    upcasters: [],
    data: z.object({
      ...webhook,
      ...secret,
      secretVersion: z.int().min(2),
      overlapEndsAt: timestamp.nullable(),
    }),
  },
  WebhookPaused: {
    upcasters: [],
    data: z.object({ ...webhook, cause: z.enum(PAUSE_CAUSES), reason: z.string().nullable() }),
  },
  WebhookResumed: { upcasters: [], data: z.object(webhook) },
  WebhookReplayed: { upcasters: [], data: z.object({ ...webhook, after: z.string().nullable() }) },
  WebhookDeleted: { upcasters: [], data: z.object(webhook) },
};

export const AUDIT_ACCESS_SCHEMAS: SchemasOf<AuditAccessed> = {
  AuditAccessed: {
    upcasters: [],
    data: z.object({
      access: z.enum(AUDIT_ACCESS_KINDS),
      repoId: z.string().nullable(),
      apiKeyId: z.string().nullable(),
      query: z.record(z.string(), z.union([z.string(), z.number()])),
      from: z.string(),
      verified: z.boolean(),
    }),
  },
};

const ALL = { ...API_KEY_EVENT_SCHEMAS, ...WEBHOOK_EVENT_SCHEMAS, ...AUDIT_ACCESS_SCHEMAS };

/** The latest version of a type of event: what is written. */
export const schemaVersionOf = (type: DomainEvent['type']): number => ALL[type].upcasters.length + 1;

export const EVENT_TYPES: readonly string[] = Object.keys(ALL);

/** What the names of all streams begin with: other streams of a server are nothing of ours. */
export const STREAM_CATEGORIES = [API_KEY_CATEGORY, WEBHOOK_CATEGORY, AUDIT_ACCESS_CATEGORY];
