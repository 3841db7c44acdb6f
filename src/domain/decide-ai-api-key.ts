import {
  type AiApiKey,
  type ApiKeyCommand,
  type ApiKeyEvent,
  type ApiKeyRef,
  type ApiKeyState,
  type CreateAiApiKey,
  type RotateAiApiKey,
  secretHashesAt,
  type UpdateAiApiKey,
} from './ai-api-key.js';
import { KeyledgerError } from './errors.js';
import { isReplay, overlapEnd } from './idempotency.js';

/**
 * Decides which events a command causes; none if it changes nothing.
 * @param now RFC 3339; the clock may have been set back since the last event
 * @throws KeyledgerError INVALID_INPUT, KEY_NOT_FOUND, KEY_QUARANTINED, CONFLICT, IDEMPOTENCY_KEY_REUSED,
 * IDEMPOTENCY_KEY_USED
 */
export function decideApiKey(command: ApiKeyCommand, state: ApiKeyState, now: string): ApiKeyEvent[] {
  const { apiKeyId, repoId } = command;
  const ref = { apiKeyId, repoId };
  switch (command.type) {
    case 'CreateAiApiKey':
      return decideCreate(command, state, now);
    case 'UpdateAiApiKey':
      return decideUpdate(command, requireWritable(command, state), now);
    case 'RotateAiApiKey':
      return decideRotate(command, requireWritable(command, state), now);
    case 'SuspendAiApiKey': {
      const { status } = requireWritable(command, state);
      const { reason } = command;
      return status === 'suspended' ? [] : [{ type: 'ApiKeySuspended', data: { ...ref, reason } }];
    }
    case 'ResumeAiApiKey': {
      const { status } = requireWritable(command, state);
      return status === 'suspended' ? [{ type: 'ApiKeyResumed', data: ref }] : [];
    }
    case 'DeleteAiApiKey':
      requireExisting(command, state);
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
function decideCreate({ type: _, ...data }: CreateAiApiKey, state: ApiKeyState, now: string): ApiKeyEvent[] {
  if (!state) {
    assertFutureExpiry(data.expiresAt, now);
    return [{ type: 'ApiKeyCreated', data }];
  }
  if (state.status === 'unavailable') throw quarantinedError(state);
  if (!isReplay(data.idempotency, { ...state, id: state.apiKeyId }, now)) throw new KeyledgerError('CONFLICT');
  return [];
}

function decideUpdate(command: UpdateAiApiKey, key: AiApiKey, now: string): ApiKeyEvent[] {
  const { apiKeyId, repoId, name, expiresAt } = command;
  const events: ApiKeyEvent[] = [];
  if (name !== undefined && name !== key.name) {
    events.push({ type: 'ApiKeyRenamed', data: { apiKeyId, repoId, name } });
  }
  if (expiresAt !== undefined) {
    assertFutureExpiry(expiresAt, now);
    if (expiresAt !== key.expiresAt) {
      events.push({ type: 'ApiKeyExpiryChanged', data: { apiKeyId, repoId, expiresAt } });
    }
  }
  return events;
}

function decideRotate(command: RotateAiApiKey, key: AiApiKey, now: string): ApiKeyEvent[] {
  const { type: _, overlapSeconds, ...data } = command;
  if (isReplay(command.idempotency, { ...key, id: key.apiKeyId }, now)) return [];
  const overlapEndsAt = overlapEnd(now, overlapSeconds);
  return [{ type: 'ApiKeySecretRotated', data: { ...data, overlapEndsAt } }];
}

function assertFutureExpiry(expiresAt: string | null, now: string): void {
  if (expiresAt !== null && Date.parse(expiresAt) <= Date.parse(now)) {
    throw new KeyledgerError('INVALID_INPUT', { message: 'expiresAt: must be in the future, or null' });
  }
}

function requireExisting(command: ApiKeyRef, state: ApiKeyState): AiApiKey {
  if (!state || state.status === 'deleted' || state.repoId !== command.repoId) {
    throw new KeyledgerError('KEY_NOT_FOUND');
  }
  return state;
}

function requireWritable(command: ApiKeyRef, state: ApiKeyState): AiApiKey {
  const key = requireExisting(command, state);
  if (key.status === 'unavailable') throw quarantinedError(key);
  return key;
}

const quarantinedError = (key: AiApiKey) => new KeyledgerError('KEY_QUARANTINED', { details: { id: key.apiKeyId } });
