import { z } from 'zod';
import type { Actor } from '../domain/access.js';
import {
  AI_TYPES,
  type ApiKeyEvent,
  apiKeyIdOf,
  DELETION_REASONS,
  type Occurred,
  type Unreadable,
} from '../domain/ai-api-key.js';
import { ACCESSES, type AuditAccessed } from '../domain/audit-access.js';
import type { NewEvent, RecordedEvent } from './event-store.js';

/**
 * The boundary between the log's JSON and the domain's events: one schema and one version a type.
 * A new shape is a new version; the upcaster at index n lifts data of version n + 1 to version n + 2.
 * It is given whatever JSON is there, and never throws: the schema judges what comes out.
 */
type Upcaster = (data: unknown) => unknown;
type Codec<E extends ApiKeyEvent | AuditAccessed> = {
  upcasters: readonly Upcaster[];
  data: z.ZodType<E['data']>;
};

const key = { apiKeyId: z.string(), repoId: z.string() };
const secret = {
  secretHash: z.string(),
  sealedSecret: z.string(),
  idempotency: z.object({ keyHash: z.string(), requestHash: z.string() }).optional(),
};
/** Times are compared, so they have one width. */
const time = z.iso.datetime({ precision: 3 });
const adding =
  (fields: object): Upcaster =>
  (data) => ({ ...(data as object), ...fields });

const CODECS: { readonly [T in ApiKeyEvent['type']]: Codec<Extract<ApiKeyEvent, { type: T }>> } = {
  ApiKeyCreated: {
    upcasters: [adding({ expiresAt: null })],
    data: z.object({
      ...key,
      ...secret,
      name: z.string(),
      aiType: z.enum(AI_TYPES),
      accessKey: z.string(),
      expiresAt: time.nullable(),
    }),
  },
  ApiKeyRenamed: { upcasters: [], data: z.object({ ...key, name: z.string() }) },
  ApiKeySecretRotated: {
    upcasters: [],
    data: z.object({ ...key, ...secret, secretVersion: z.int().min(2), overlapEndsAt: time.nullable() }),
  },
  ApiKeyExpiryChanged: { upcasters: [], data: z.object({ ...key, expiresAt: time.nullable() }) },
  ApiKeySuspended: { upcasters: [], data: z.object({ ...key, reason: z.string().nullable() }) },
  ApiKeyResumed: { upcasters: [], data: z.object(key) },
  ApiKeyDeleted: {
    upcasters: [adding({ reason: 'requested' })],
    data: z.object({ ...key, reason: z.enum(DELETION_REASONS) }),
  },
};

const ACCESS_CODEC: Codec<AuditAccessed> = {
  upcasters: [],
  data: z.object({
    access: z.enum(ACCESSES),
    repoId: z.string().nullable(),
    apiKeyId: z.string().nullable(),
    query: z.record(z.string(), z.union([z.string(), z.number()])),
    from: z.string(),
    verified: z.boolean(),
  }),
};

const schemaVersion = (codec: { upcasters: readonly Upcaster[] }) => codec.upcasters.length + 1;

const Metadata = z.object({
  schemaVersion: z.int().min(1),
  occurredAt: time,
  actor: z.object({ issuer: z.string(), subject: z.string() }),
  requestId: z.string(),
  $correlationId: z.string(),
  $causationId: z.string(),
});

/** Who and what caused an event. Ids only: the log is kept for ever. */
export type Cause = { readonly actor: Actor; readonly requestId: string; readonly commandId: string };

/** A domain event as the log takes it. */
export function encode(
  event: ApiKeyEvent | AuditAccessed,
  id: string,
  occurredAt: string,
  cause: Cause,
): NewEvent {
  const codec = event.type === 'AuditAccessed' ? ACCESS_CODEC : CODECS[event.type];
  return {
    id,
    type: event.type,
    data: event.data,
    metadata: {
      schemaVersion: schemaVersion(codec),
      occurredAt,
      actor: cause.actor,
      requestId: cause.requestId,
      $correlationId: cause.requestId,
      $causationId: cause.commandId,
    } satisfies z.infer<typeof Metadata>,
  };
}

type Caused = { readonly actor: Actor; readonly requestId: string };
export type Decoded = Occurred<ApiKeyEvent> & Caused;
export type DecodedAccess = Occurred<AuditAccessed> & Caused;

/**
 * The domain event that a recorded event holds; Unreadable, with the reason, if this release cannot
 * tell (unknown type or later version, wrong shape, another key's event in this key's stream, events
 * missing before it).
 * @param revision the one that must come next in its stream
 * @throws UnattributableError if the stream belongs to no key, so that nobody knows what it may concern
 */
export function decode(recorded: RecordedEvent, revision: number): Decoded | Occurred<Unreadable> {
  const apiKeyId = apiKeyIdOf(recorded.stream);
  if (!apiKeyId) throw new UnattributableError(recorded);
  const unreadable = (reason: string): Occurred<Unreadable> => ({
    type: 'Unreadable',
    reason,
    data: { apiKeyId, repoId: RepoIdOnly.safeParse(recorded.data).data?.repoId },
    occurredAt: firstRecordedAt(recorded),
  });

  if (recorded.revision !== revision)
    return unreadable(`revision ${recorded.revision} instead of ${revision}`);
  const { type } = recorded;
  if (!Object.hasOwn(CODECS, type)) return unreadable(`unknown event type ${type}`);
  const read = readBy<ApiKeyEvent>(CODECS[type as ApiKeyEvent['type']], recorded);
  if (typeof read === 'string') return unreadable(read);
  if (read.data.apiKeyId !== apiKeyId) return unreadable(`data of another key, ${read.data.apiKeyId}`);
  return { type, ...read } as Decoded;
}

/** Who looked at what; the reason if this release cannot tell. */
export function decodeAccess(recorded: RecordedEvent): DecodedAccess | string {
  if (recorded.type !== 'AuditAccessed') return `unknown event type ${recorded.type}`;
  const read = readBy(ACCESS_CODEC, recorded);
  return typeof read === 'string' ? read : { type: 'AuditAccessed', ...read };
}

/** Data as of the latest version, and what is known of its cause; or why it cannot be read. */
function readBy<E extends ApiKeyEvent | AuditAccessed>(codec: Codec<E>, recorded: RecordedEvent) {
  const metadata = Metadata.safeParse(recorded.metadata);
  if (!metadata.success) return `metadata: ${z.prettifyError(metadata.error)}`;
  const { schemaVersion: version, occurredAt, actor, requestId } = metadata.data;
  if (version > schemaVersion(codec)) {
    return `${recorded.type} of schema version ${version}; this release knows ${schemaVersion(codec)}`;
  }
  const lift = codec.upcasters.slice(version - 1);
  const data = codec.data.safeParse(lift.reduce((older, upcast) => upcast(older), recorded.data));
  if (!data.success) return `data: ${z.prettifyError(data.error)}`;
  return { data: data.data, occurredAt, actor, requestId };
}

const Imported = z.object({ importedFrom: z.object({ recordedAt: time }) });

/** When the event came into the log, or into the first one if this is a copy: copies answer as it does. */
const firstRecordedAt = ({ metadata, recordedAt }: RecordedEvent): string =>
  Imported.safeParse(metadata).data?.importedFrom.recordedAt ?? recordedAt;

const OccurredAtOnly = z.object({ occurredAt: time });

/** When the event occurred, where that can be told of one that may be unreadable; else when it was recorded. */
export const occurredAtOf = (recorded: RecordedEvent): string =>
  OccurredAtOnly.safeParse(recorded.metadata).data?.occurredAt ?? firstRecordedAt(recorded);

/** Who caused an event, and what it is about, where that can be told of one that may be unreadable. */
export function saidOf({ data, metadata }: RecordedEvent): {
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

/** An event in a stream that looks like a key's and is none: going on could hide a revocation. */
export class UnattributableError extends Error {
  constructor({ stream, position, type }: RecordedEvent) {
    super(`The ${type} at ${position} is in stream ${JSON.stringify(stream)}, which belongs to no key`);
    this.name = 'UnattributableError';
  }
}
