import {
  type AiApiKey,
  type ApiKeyCommand,
  type ApiKeyEvent,
  type CreateAiApiKey,
  type KeyRef,
  type RotateAiApiKey,
  type State,
  secretHashesAt,
  type UpdateAiApiKey,
} from './ai-api-key.js';
import { KeyledgerError } from './errors.js';
import { checkRepeat, type Given, type Idempotency } from './idempotency.js';

/**
 * The events that a command causes; none if there is nothing to change.
 * @param now what the clock says, RFC 3339; it may have been set back since the last event
 * @throws KeyledgerError INVALID_INPUT, KEY_NOT_FOUND, KEY_QUARANTINED, CONFLICT, IDEMPOTENCY_KEY_REUSED,
 * IDEMPOTENCY_KEY_USED
 */
export function decide(command: ApiKeyCommand, state: State, now: string): ApiKeyEvent[] {
  const { apiKeyId, repoId } = command;
  const ref = { apiKeyId, repoId };
  switch (command.type) {
    case 'CreateAiApiKey':
      return decideCreate(command, state, now);
    case 'UpdateAiApiKey':
      return decideUpdate(command, changeable(command, state), now);
    case 'RotateAiApiKey':
      return decideRotate(command, changeable(command, state), now);
    case 'SuspendAiApiKey': {
      const { status } = changeable(command, state);
      const { reason } = command;
      return status === 'suspended' ? [] : [{ type: 'ApiKeySuspended', data: { ...ref, reason } }];
    }
    case 'ResumeAiApiKey': {
      const { status } = changeable(command, state);
      return status === 'suspended' ? [{ type: 'ApiKeyResumed', data: ref }] : [];
    }
    case 'DeleteAiApiKey':
      existing(command, state);
      return [{ type: 'ApiKeyDeleted', data: { ...ref, reason: 'requested' } }];
    case 'RevokeLeakedAiApiKey': {
      const isProof =
        state &&
        state.status !== 'deleted' &&
        state.repoId === repoId &&
        secretHashesAt(state, Date.parse(now)).includes(command.secretHash);
      return isProof ? [{ type: 'ApiKeyDeleted', data: { ...ref, reason: 'leaked' } }] : [];
    }
  }
}

/** A creation meets an existing key only if its id was derived from the same Idempotency-Key. */
function decideCreate({ type: _, ...data }: CreateAiApiKey, state: State, now: string): ApiKeyEvent[] {
  if (!state) {
    checkExpiry(data.expiresAt, now);
    return [{ type: 'ApiKeyCreated', data }];
  }
  if (state.status === 'unavailable') throw quarantined(state);
  const first = givenTo(data.idempotency, state);
  if (!data.idempotency || first?.secretVersion !== 1) throw new KeyledgerError('CONFLICT');
  checkRepeat(data.idempotency, first, { ...state, id: state.apiKeyId }, now);
  return [];
}

function decideUpdate(command: UpdateAiApiKey, key: AiApiKey, now: string): ApiKeyEvent[] {
  const { apiKeyId, repoId, name, expiresAt } = command;
  const events: ApiKeyEvent[] = [];
  if (name !== undefined && name !== key.name) {
    events.push({ type: 'ApiKeyRenamed', data: { apiKeyId, repoId, name } });
  }
  if (expiresAt !== undefined) {
    checkExpiry(expiresAt, now);
    if (expiresAt !== key.expiresAt) {
      events.push({ type: 'ApiKeyExpiryChanged', data: { apiKeyId, repoId, expiresAt } });
    }
  }
  return events;
}

function decideRotate(command: RotateAiApiKey, key: AiApiKey, now: string): ApiKeyEvent[] {
  const { type: _, overlapSeconds, ...data } = command;
  const first = givenTo(command.idempotency, key);
  if (command.idempotency && first) {
    checkRepeat(command.idempotency, first, { ...key, id: key.apiKeyId }, now);
    return [];
  }
  const overlapEndsAt =
    overlapSeconds > 0 ? new Date(Date.parse(now) + overlapSeconds * 1000).toISOString() : null;
  return [{ type: 'ApiKeySecretRotated', data: { ...data, overlapEndsAt } }];
}

const givenTo = (idempotency: Idempotency | undefined, { given }: AiApiKey): Given | undefined =>
  given.find(({ keyHash }) => keyHash === idempotency?.keyHash);

function checkExpiry(expiresAt: string | null, now: string): void {
  if (expiresAt !== null && Date.parse(expiresAt) <= Date.parse(now)) {
    throw new KeyledgerError('INVALID_INPUT', { message: 'expiresAt: must be in the future, or null' });
  }
}

function existing(command: KeyRef, state: State): AiApiKey {
  if (!state || state.status === 'deleted' || state.repoId !== command.repoId) {
    throw new KeyledgerError('KEY_NOT_FOUND');
  }
  return state;
}

function changeable(command: KeyRef, state: State): AiApiKey {
  const key = existing(command, state);
  if (key.status === 'unavailable') throw quarantined(key);
  return key;
}

const quarantined = (key: AiApiKey) =>
  new KeyledgerError('KEY_QUARANTINED', { details: { id: key.apiKeyId } });
