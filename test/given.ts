import { expect } from '@jest/globals';
import {
  type ApiKeyCommand,
  type ApiKeyEvent,
  type CreateAiApiKey,
  evolve,
  type Occurred,
  type State,
  type Unreadable,
} from '../src/domain/ai-api-key.js';
import { decide } from '../src/domain/decide-ai-api-key.js';
import type { ErrorCode } from '../src/domain/errors.js';

/** The aggregate's tests read: given events, when a command, then events or an error. */

export const apiKeyId = '0b7f3c1e-6f0a-4c57-9d3a-2f1f8f3d9a10';
export const repoId = 'shop';
const ref = { apiKeyId, repoId };
export const T0 = '2026-01-01T00:00:00.000Z';
export const msLater = (ms: number) => new Date(Date.parse(T0) + ms).toISOString();

const data = {
  ...ref,
  name: 'search',
  aiType: 'OPENAI' as const,
  accessKey: 'FB_AI_x',
  secretHash: 'hash 1',
  sealedSecret: 'sealed 1',
  expiresAt: null,
  idempotency: { keyHash: 'k', requestHash: 'r' },
};
export const create: CreateAiApiKey = { type: 'CreateAiApiKey', ...data };
export const update = (change: { name?: string; expiresAt?: string | null }): ApiKeyCommand => ({
  type: 'UpdateAiApiKey',
  ...ref,
  ...change,
});
export const remove: ApiKeyCommand = { type: 'DeleteAiApiKey', ...ref };
export const suspend: ApiKeyCommand = { type: 'SuspendAiApiKey', ...ref, reason: 'odd traffic' };
export const resume: ApiKeyCommand = { type: 'ResumeAiApiKey', ...ref };
export const revoke = (secretHash: string): ApiKeyCommand => ({
  type: 'RevokeLeakedAiApiKey',
  ...ref,
  secretHash,
});
const secretOf = (version: number) => ({
  secretVersion: version,
  secretHash: `hash ${version}`,
  sealedSecret: `sealed ${version}`,
});
export const rotate = (version: number, overlapSeconds = 0, keyHash?: string): ApiKeyCommand => ({
  type: 'RotateAiApiKey',
  ...ref,
  ...secretOf(version),
  overlapSeconds,
  idempotency: keyHash === undefined ? undefined : { keyHash, requestHash: `overlap ${overlapSeconds}` },
});

export type Event = ApiKeyEvent | Unreadable;
export const created: ApiKeyEvent = { type: 'ApiKeyCreated', data };
export const createdUntil = (expiresAt: string): ApiKeyEvent => ({
  type: 'ApiKeyCreated',
  data: { ...data, expiresAt },
});
export const renamed = (name: string): ApiKeyEvent => ({ type: 'ApiKeyRenamed', data: { ...ref, name } });
export const expiring = (expiresAt: string | null): ApiKeyEvent => ({
  type: 'ApiKeyExpiryChanged',
  data: { ...ref, expiresAt },
});
export const rotated = (
  version: number,
  overlapEndsAt: string | null = null,
  idempotency?: { keyHash: string; requestHash: string },
): ApiKeyEvent => ({
  type: 'ApiKeySecretRotated',
  data: { ...ref, ...secretOf(version), overlapEndsAt, idempotency },
});
export const suspended: ApiKeyEvent = { type: 'ApiKeySuspended', data: { ...ref, reason: 'odd traffic' } };
export const resumed: ApiKeyEvent = { type: 'ApiKeyResumed', data: ref };
export const deleted: ApiKeyEvent = { type: 'ApiKeyDeleted', data: { ...ref, reason: 'requested' } };
export const leaked: ApiKeyEvent = { type: 'ApiKeyDeleted', data: { ...ref, reason: 'leaked' } };
export const unreadable: Unreadable = { type: 'Unreadable', reason: 'later version', data: ref };

export const at = (event: Event, occurredAt = T0): Occurred<Event> => ({ ...event, occurredAt });
export const fold = (events: readonly Event[]): State =>
  events.reduce<State>((state, event) => evolve(state, at(event)), undefined);

/** All events happened at T0. */
export const given = (...events: Event[]) => ({
  when: (command: ApiKeyCommand, time = T0) => ({
    thenEvents: (...expected: ApiKeyEvent[]) => expect(decide(command, fold(events), time)).toEqual(expected),
    thenError: (code: ErrorCode, details = {}) => {
      expect(() => decide(command, fold(events), time)).toThrow(expect.objectContaining({ code, details }));
    },
  }),
});
