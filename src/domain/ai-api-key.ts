import type { Idempotency, IdempotencyRecord } from './idempotency.js';
import type { SealedSecret } from './sealed-secret.js';
import type { EpochMs } from './time.js';
import { isUuid } from './uuid.js';

/**
 * The aggregate of an API key, one stream each. Pure: stream, commands, events, state and evolve (state + event ->
 * state); decide (command + state -> events) is in decide-ai-api-key.ts. Commands say AiApiKey and events ApiKey,
 * because the contract does.
 */

// --- Stream ---------------------------------------------------------------------------------

/** Prefix of the stream names. */
export const API_KEY_CATEGORY = 'aiApiKey-';

export const isApiKeyId = isUuid;

export const apiKeyStream = (apiKeyId: string): string => API_KEY_CATEGORY + apiKeyId;

// --- Commands -------------------------------------------------------------------------------

export const AI_TYPES = ['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'] as const;
export type AiType = (typeof AI_TYPES)[number];

/** The key and its repository, which every command and event names. */
export type ApiKeyRef = { readonly apiKeyId: string; readonly repoId: string };

/** expiresAt: RFC 3339 in UTC with milliseconds, or null for never. */
export type CreateAiApiKey = ApiKeyRef & {
  readonly type: 'CreateAiApiKey';
  readonly name: string;
  readonly aiType: AiType;
  readonly accessKey: string;
  readonly secretHash: string;
  readonly sealedSecret: string;
  readonly expiresAt: string | null;
  readonly idempotency?: Idempotency | undefined;
};

/** Undefined fields stay unchanged. */
export type UpdateAiApiKey = ApiKeyRef & {
  readonly type: 'UpdateAiApiKey';
  readonly name?: string | undefined;
  readonly expiresAt?: string | null | undefined;
};

/** Gives the key a new secret; the old one stays valid for the overlap (seconds). */
export type RotateAiApiKey = ApiKeyRef &
  SealedSecret & {
    readonly type: 'RotateAiApiKey';
    readonly overlapSeconds: number;
    readonly idempotency?: Idempotency | undefined;
  };

export type SuspendAiApiKey = ApiKeyRef & {
  readonly type: 'SuspendAiApiKey';
  readonly reason: string | null;
};
export type ResumeAiApiKey = ApiKeyRef & { readonly type: 'ResumeAiApiKey' };
export type DeleteAiApiKey = ApiKeyRef & { readonly type: 'DeleteAiApiKey' };

/** Deletes the key if the caller holds a valid secret of it, which the hash proves. */
export type RevokeLeakedAiApiKey = ApiKeyRef & {
  readonly type: 'RevokeLeakedAiApiKey';
  readonly secretHash: string;
};

export type ApiKeyCommand =
  | CreateAiApiKey
  | UpdateAiApiKey
  | RotateAiApiKey
  | SuspendAiApiKey
  | ResumeAiApiKey
  | DeleteAiApiKey
  | RevokeLeakedAiApiKey;

// --- Events ---------------------------------------------------------------------------------

type EventOf<Type extends string, Data = unknown> = { readonly type: Type; readonly data: ApiKeyRef & Data };

export type ApiKeyCreated = EventOf<'ApiKeyCreated', Omit<CreateAiApiKey, 'type'>>;
export type ApiKeyRenamed = EventOf<'ApiKeyRenamed', { readonly name: string }>;
export type ApiKeySecretRotated = EventOf<
  'ApiKeySecretRotated',
  SealedSecret & {
    /** When the old secret stops being valid; null: at once. */
    readonly overlapEndsAt: string | null;
    readonly idempotency?: Idempotency | undefined;
  }
>;
export type ApiKeyExpiryChanged = EventOf<'ApiKeyExpiryChanged', { readonly expiresAt: string | null }>;
export type ApiKeySuspended = EventOf<'ApiKeySuspended', { readonly reason: string | null }>;
export type ApiKeyResumed = EventOf<'ApiKeyResumed'>;
export type ApiKeyDeleted = EventOf<'ApiKeyDeleted', { readonly reason: DeletionReason }>;

export const DELETION_REASONS = ['requested', 'leaked'] as const;
export type DeletionReason = (typeof DELETION_REASONS)[number];

export type ApiKeyEvent =
  | ApiKeyCreated
  | ApiKeyRenamed
  | ApiKeySecretRotated
  | ApiKeyExpiryChanged
  | ApiKeySuspended
  | ApiKeyResumed
  | ApiKeyDeleted;

export const API_KEY_EVENTS = [
  'ApiKeyCreated',
  'ApiKeyRenamed',
  'ApiKeySecretRotated',
  'ApiKeyExpiryChanged',
  'ApiKeySuspended',
  'ApiKeyResumed',
  'ApiKeyDeleted',
] as const satisfies readonly ApiKeyEvent['type'][];

/** Stands in a fold for an event of the key's stream that this release cannot decode. */
export type UnreadableApiKeyEvent = {
  readonly type: 'Unreadable';
  readonly reason: string;
  readonly data: { readonly apiKeyId: string; readonly repoId?: string | undefined };
};

/** An event with its time: RFC 3339, UTC, milliseconds. */
export type Occurred<E> = E & { readonly occurredAt: string };

// --- State ----------------------------------------------------------------------------------

/**
 * `unavailable` (quarantined): the stream holds an event that this release cannot decode or apply. The key fails
 * closed: it is never valid and accepts only deletion.
 */
export type AiApiKey = Omit<CreateAiApiKey, 'type' | 'idempotency'> & {
  readonly status: 'active' | 'suspended' | 'deleted' | 'unavailable';
  readonly createdAt: string;
  readonly deletedAt: string | null;
  /** 1 for the first secret; each rotation adds one. */
  readonly secretVersion: number;
  /** False once the key was suspended with this secret. */
  readonly secretReplayable: boolean;
  /** The secret before the last rotation, valid until `goodUntil`; null if that rotation had no overlap. */
  readonly oldSecret: { readonly hash: string; readonly goodUntil: string } | null;
  readonly idempotencyRecords: readonly IdempotencyRecord[];
};

/** Undefined: the key was never created. */
export type ApiKeyState = AiApiKey | undefined;

export const STATUSES = ['active', 'suspended', 'expired', 'deleted', 'unavailable'] as const;
/** Status at a point in time: expiry is no event, the clock decides. */
export type Status = (typeof STATUSES)[number];

export const statusAt = (key: Pick<AiApiKey, 'status' | 'expiresAt'>, now: EpochMs): Status =>
  key.status === 'active' && key.expiresAt !== null && Date.parse(key.expiresAt) <= now ? 'expired' : key.status;

/** Hashes of the secrets that are valid at a point in time, whatever the key's status. */
export const secretHashesAt = (
  { secretHash, oldSecret }: Pick<AiApiKey, 'secretHash' | 'oldSecret'>,
  now: EpochMs,
): readonly string[] =>
  oldSecret && now < Date.parse(oldSecret.goodUntil) ? [secretHash, oldSecret.hash] : [secretHash];

// --- Evolve ---------------------------------------------------------------------------------

/**
 * Applies an event. Never throws: an event that does not fit (unreadable, of another repository, of a key that was
 * never created) makes the key unavailable, after which only a deletion changes it. A deleted key stays deleted.
 */
export function evolveApiKey(state: ApiKeyState, event: Occurred<ApiKeyEvent | UnreadableApiKeyEvent>): AiApiKey {
  if (!state) return event.type === 'ApiKeyCreated' ? created(event) : unknownKey(event);
  if (state.status === 'deleted') return state;
  const unavailable: AiApiKey = { ...state, status: 'unavailable' };
  if (event.data.repoId !== state.repoId) return unavailable;
  if (event.type === 'ApiKeyDeleted') return { ...state, status: 'deleted', deletedAt: event.occurredAt };
  if (state.status === 'unavailable') return state;
  switch (event.type) {
    case 'ApiKeyRenamed':
      return { ...state, name: event.data.name };
    case 'ApiKeySecretRotated':
      return event.data.secretVersion === state.secretVersion + 1 ? rotated(state, event) : unavailable;
    case 'ApiKeyExpiryChanged':
      return { ...state, expiresAt: event.data.expiresAt };
    case 'ApiKeySuspended':
      return { ...state, status: 'suspended', secretReplayable: false };
    case 'ApiKeyResumed':
      return { ...state, status: 'active' };
    case 'ApiKeyCreated':
    case 'Unreadable':
      return unavailable;
  }
}

function created({ data, occurredAt }: Occurred<ApiKeyCreated>): AiApiKey {
  const { apiKeyId, repoId, name, aiType, accessKey, secretHash, sealedSecret, expiresAt, idempotency } = data;
  // Field by field: a rest pattern takes ten times as long, and this is most of folding a log.
  return {
    apiKeyId,
    repoId,
    name,
    aiType,
    accessKey,
    secretHash,
    sealedSecret,
    expiresAt,
    status: 'active',
    createdAt: occurredAt,
    deletedAt: null,
    secretVersion: 1,
    secretReplayable: true,
    oldSecret: null,
    idempotencyRecords: idempotency ? [{ ...idempotency, secretVersion: 1, at: occurredAt }] : [],
  };
}

function rotated(key: AiApiKey, { data, occurredAt }: Occurred<ApiKeySecretRotated>): AiApiKey {
  const { secretVersion, secretHash, sealedSecret, overlapEndsAt, idempotency } = data;
  return {
    ...key,
    secretVersion,
    secretHash,
    sealedSecret,
    secretReplayable: true,
    oldSecret: overlapEndsAt === null ? null : { hash: key.secretHash, goodUntil: overlapEndsAt },
    idempotencyRecords: idempotency
      ? [...key.idempotencyRecords, { ...idempotency, secretVersion, at: occurredAt }]
      : key.idempotencyRecords,
  };
}

/** A key whose creation is unreadable: its id, and its repository if known. */
const unknownKey = ({ data, occurredAt }: Occurred<ApiKeyEvent | UnreadableApiKeyEvent>): AiApiKey => ({
  apiKeyId: data.apiKeyId,
  repoId: data.repoId ?? '',
  name: '(unreadable)',
  aiType: 'OTHER',
  accessKey: '',
  secretHash: '',
  sealedSecret: '',
  expiresAt: null,
  status: 'unavailable',
  createdAt: occurredAt,
  deletedAt: null,
  secretVersion: 0,
  secretReplayable: false,
  oldSecret: null,
  idempotencyRecords: [],
});
