import type { Idempotency, IdempotencyRecord } from './idempotency.js';

/**
 * The aggregate: one AI API key, one stream. Top to bottom: stream, commands, events, state and
 * evolve (state + event -> state); decide (command + state -> events) is next door. All of it is pure.
 */

// --- Stream ---------------------------------------------------------------------------------

/** What the names of these streams begin with. */
export const API_KEY_CATEGORY = 'aiApiKey-';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const isApiKeyId = (text: string): boolean => UUID.test(text);

export const apiKeyStream = (apiKeyId: string): string => API_KEY_CATEGORY + apiKeyId;

export const isApiKeyStream = (stream: string): boolean => apiKeyIdOf(stream) !== undefined;

/** The key whose stream this is, or undefined if the name belongs to no key. */
export function apiKeyIdOf(stream: string): string | undefined {
  const id = stream.slice(API_KEY_CATEGORY.length);
  return stream.startsWith(API_KEY_CATEGORY) && isApiKeyId(id) ? id : undefined;
}

// --- Commands -------------------------------------------------------------------------------

export const AI_TYPES = ['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'] as const;
export type AiType = (typeof AI_TYPES)[number];

/** The key and where it belongs: what every command and every event says. */
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

/** What is undefined stays as it is. */
export type UpdateAiApiKey = ApiKeyRef & {
  readonly type: 'UpdateAiApiKey';
  readonly name?: string | undefined;
  readonly expiresAt?: string | null | undefined;
};

/** A new secret; the old one stays good for the overlap (seconds). */
export type RotateAiApiKey = ApiKeyRef & {
  readonly type: 'RotateAiApiKey';
  /** What the secret is sealed for: one more than that of the state. */
  readonly secretVersion: number;
  readonly secretHash: string;
  readonly sealedSecret: string;
  readonly overlapSeconds: number;
  readonly idempotency?: Idempotency | undefined;
};

export type SuspendAiApiKey = ApiKeyRef & {
  readonly type: 'SuspendAiApiKey';
  readonly reason: string | null;
};
export type ResumeAiApiKey = ApiKeyRef & { readonly type: 'ResumeAiApiKey' };
export type DeleteAiApiKey = ApiKeyRef & { readonly type: 'DeleteAiApiKey' };

/** Deletes the key if whoever asks holds a secret of it that is good: the hash is the proof. */
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
  {
    readonly secretVersion: number;
    readonly secretHash: string;
    readonly sealedSecret: string;
    /** Until then the old secret is good too; null if it ended at once. */
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
export type Unreadable = {
  readonly type: 'Unreadable';
  readonly reason: string;
  readonly data: { readonly apiKeyId: string; readonly repoId?: string | undefined };
};

/** An event with its time: RFC 3339, UTC, milliseconds. */
export type Occurred<E> = E & { readonly occurredAt: string };

// --- State ----------------------------------------------------------------------------------

/**
 * `unavailable` (quarantined): the stream holds an event that could not be decoded or folded, so
 * nobody knows what the key may do. It fails closed: never valid, and only deletion gets through.
 */
export type AiApiKey = Omit<CreateAiApiKey, 'type' | 'idempotency'> & {
  readonly status: 'active' | 'suspended' | 'deleted' | 'unavailable';
  readonly createdAt: string;
  readonly deletedAt: string | null;
  /** 1 for the secret that came with the key, one more with each rotation. */
  readonly secretVersion: number;
  /** False once the key was suspended with this secret. */
  readonly secretReplayable: boolean;
  /** The secret before this one, while it overlaps. */
  readonly oldSecret: { readonly hash: string; readonly goodUntil: string } | null;
  /** What each Idempotency-Key got. */
  readonly idempotencyRecords: readonly IdempotencyRecord[];
};

/** No state: the key was never created. */
export type ApiKeyState = AiApiKey | undefined;

export const STATUSES = ['active', 'suspended', 'expired', 'deleted', 'unavailable'] as const;
/** What a key is at a moment: expiry is no event, the clock decides. */
export type Status = (typeof STATUSES)[number];

/** @param now milliseconds since 1970 */
export const statusAt = (key: Pick<AiApiKey, 'status' | 'expiresAt'>, now: number): Status =>
  key.status === 'active' && key.expiresAt !== null && Date.parse(key.expiresAt) <= now
    ? 'expired'
    : key.status;

/** The hashes of the secrets that are good at a moment (milliseconds since 1970), but for the key's status. */
export const secretHashesAt = (
  { secretHash, oldSecret }: Pick<AiApiKey, 'secretHash' | 'oldSecret'>,
  now: number,
): readonly string[] =>
  oldSecret && now < Date.parse(oldSecret.goodUntil) ? [secretHash, oldSecret.hash] : [secretHash];

// --- Evolve ---------------------------------------------------------------------------------

/**
 * The state after an event. Never throws: an event that makes no sense here (unreadable, of another
 * repository, of a key that was never created) makes the key unavailable, and what follows it
 * changes nothing but a deletion. A deleted key stays deleted whatever comes.
 */
export function evolveApiKey(state: ApiKeyState, event: Occurred<ApiKeyEvent | Unreadable>): AiApiKey {
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
  const { apiKeyId, repoId, name, aiType, accessKey, secretHash, sealedSecret, expiresAt, idempotency } =
    data;
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

/** What can be said of a key whose creation cannot be read: which it is, and perhaps where. */
const unknownKey = ({ data, occurredAt }: Occurred<ApiKeyEvent | Unreadable>): AiApiKey => ({
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
