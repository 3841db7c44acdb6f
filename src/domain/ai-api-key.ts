import { KeyledgerError } from './errors.js';

/**
 * The aggregate: one AI API key, one stream. Top to bottom: stream, commands, events, state,
 * decide (command + state -> events) and evolve (state + event -> state). All of it is pure.
 */

// --- Stream ---------------------------------------------------------------------------------

/** What the names of these streams begin with. */
export const CATEGORY = 'aiApiKey-';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const isApiKeyId = (text: string): boolean => UUID.test(text);

export const streamOf = (apiKeyId: string): string => CATEGORY + apiKeyId;

export const isApiKeyStream = (stream: string): boolean => stream.startsWith(CATEGORY);

/** The key whose stream this is, or undefined if the name belongs to no key. */
export function apiKeyIdOf(stream: string): string | undefined {
  const id = stream.slice(CATEGORY.length);
  return isApiKeyStream(stream) && isApiKeyId(id) ? id : undefined;
}

// --- Commands -------------------------------------------------------------------------------

export const AI_TYPES = ['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'] as const;
export type AiType = (typeof AI_TYPES)[number];

/** SHA-256 (hex) of the Idempotency-Key and of the parsed request that came with it. */
export type Idempotency = { readonly keyHash: string; readonly requestHash: string };

export type CreateAiApiKey = {
  readonly type: 'CreateAiApiKey';
  readonly apiKeyId: string;
  readonly repoId: string;
  readonly name: string;
  readonly aiType: AiType;
  readonly accessKey: string;
  readonly secretHash: string;
  readonly sealedSecret: string;
  readonly idempotency?: Idempotency | undefined;
};

export type RenameAiApiKey = {
  readonly type: 'RenameAiApiKey';
  readonly apiKeyId: string;
  readonly repoId: string;
  readonly name?: string | undefined;
};

export type DeleteAiApiKey = {
  readonly type: 'DeleteAiApiKey';
  readonly apiKeyId: string;
  readonly repoId: string;
};

export type ApiKeyCommand = CreateAiApiKey | RenameAiApiKey | DeleteAiApiKey;

// --- Events ---------------------------------------------------------------------------------

export type ApiKeyCreated = {
  readonly type: 'ApiKeyCreated';
  readonly data: Omit<CreateAiApiKey, 'type'>;
};

export type ApiKeyRenamed = {
  readonly type: 'ApiKeyRenamed';
  readonly data: { readonly apiKeyId: string; readonly repoId: string; readonly name: string };
};

export type ApiKeyDeleted = {
  readonly type: 'ApiKeyDeleted';
  readonly data: { readonly apiKeyId: string; readonly repoId: string };
};

export type ApiKeyEvent = ApiKeyCreated | ApiKeyRenamed | ApiKeyDeleted;

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
export type AiApiKey = Omit<CreateAiApiKey, 'type'> & {
  readonly status: 'active' | 'deleted' | 'unavailable';
  readonly createdAt: string;
  readonly deletedAt: string | null;
};

/** No state: the key was never created. */
export type State = AiApiKey | undefined;

// --- Decide ---------------------------------------------------------------------------------

/** A repeated creation gets the same answer for so long (milliseconds). */
export const REPEAT_WINDOW_MS = 15 * 60 * 1000;

/**
 * The events that a command causes; none if there is nothing to change.
 * @param now what the clock says, RFC 3339; it may have been set back since the last event
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, CONFLICT, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED
 */
export function decide(command: ApiKeyCommand, state: State, now: string): ApiKeyEvent[] {
  switch (command.type) {
    case 'CreateAiApiKey':
      return decideCreate(command, state, now);
    case 'RenameAiApiKey': {
      const key = existing(command, state);
      if (key.status === 'unavailable') throw quarantined(key);
      const { apiKeyId, repoId, name } = command;
      return name === undefined || name === key.name
        ? []
        : [{ type: 'ApiKeyRenamed', data: { apiKeyId, repoId, name } }];
    }
    case 'DeleteAiApiKey': {
      existing(command, state);
      const { apiKeyId, repoId } = command;
      return [{ type: 'ApiKeyDeleted', data: { apiKeyId, repoId } }];
    }
  }
}

/** A creation meets an existing key only if its id was derived from the same Idempotency-Key. */
function decideCreate({ type: _, ...data }: CreateAiApiKey, state: State, now: string): ApiKeyEvent[] {
  if (!state) return [{ type: 'ApiKeyCreated', data }];
  if (state.status === 'unavailable') throw quarantined(state);
  if (!data.idempotency || data.idempotency.keyHash !== state.idempotency?.keyHash) {
    throw new KeyledgerError('CONFLICT');
  }
  const details = { id: state.apiKeyId };
  if (data.idempotency.requestHash !== state.idempotency.requestHash) {
    throw new KeyledgerError('IDEMPOTENCY_KEY_REUSED');
  }
  const age = Math.abs(Date.parse(now) - Date.parse(state.createdAt));
  if (state.status !== 'active' || age > REPEAT_WINDOW_MS) {
    throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details });
  }
  return [];
}

function existing(command: { repoId: string }, state: State): AiApiKey {
  if (!state || state.status === 'deleted' || state.repoId !== command.repoId) {
    throw new KeyledgerError('KEY_NOT_FOUND');
  }
  return state;
}

const quarantined = (key: AiApiKey) =>
  new KeyledgerError('KEY_QUARANTINED', { details: { id: key.apiKeyId } });

// --- Evolve ---------------------------------------------------------------------------------

/**
 * The state after an event. Never throws: an event that makes no sense here (unreadable, of another
 * repository, of a key that was never created) makes the key unavailable, and what follows it
 * changes nothing but a deletion. A deleted key stays deleted whatever comes.
 */
export function evolve(state: State, event: Occurred<ApiKeyEvent | Unreadable>): AiApiKey {
  if (!state) return event.type === 'ApiKeyCreated' ? created(event) : unknownKey(event);
  if (state.status === 'deleted') return state;
  if (event.data.repoId !== state.repoId) return { ...state, status: 'unavailable' };
  switch (event.type) {
    case 'ApiKeyDeleted':
      return { ...state, status: 'deleted', deletedAt: event.occurredAt };
    case 'ApiKeyRenamed':
      return state.status === 'active' ? { ...state, name: event.data.name } : state;
    case 'ApiKeyCreated':
    case 'Unreadable':
      return { ...state, status: 'unavailable' };
  }
}

const created = ({ data, occurredAt }: Occurred<ApiKeyCreated>): AiApiKey => ({
  ...data,
  status: 'active',
  createdAt: occurredAt,
  deletedAt: null,
});

/** What can be said of a key whose creation cannot be read: which it is, and perhaps where. */
const unknownKey = ({ data, occurredAt }: Occurred<ApiKeyEvent | Unreadable>): AiApiKey => ({
  apiKeyId: data.apiKeyId,
  repoId: data.repoId ?? '',
  name: '(unreadable)',
  aiType: 'OTHER',
  accessKey: '',
  secretHash: '',
  sealedSecret: '',
  status: 'unavailable',
  createdAt: occurredAt,
  deletedAt: null,
});
