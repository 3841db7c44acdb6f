/**
 * Client of Keyledger's HTTP API: typed, without dependencies, for Node, Deno and browsers.
 *
 * It retries transient failures (no answer, 408, 425, 429, 502, 503, 504) after the delay that Retry-After requests
 * plus a random, growing backoff, and never 500 or another 4xx. No attempt can create a second API key or rotate a
 * second time: a creation or rotation carries an Idempotency-Key, and all its attempts send the same key and body.
 */
import type { ApiKeyHistory, AuditPage } from './audit-types.js';
import { followEvents } from './events.js';
import type { ClientOptions } from './options.js';
import { apiKeyPath, apiKeysPath, auditPath, query } from './paths.js';
import { rejectUnknown } from './reject-unknown.js';
import { type Call, createTransport } from './transport.js';
import type {
  Acknowledged,
  ApiKeyList,
  Client,
  CreatedApiKey,
  Done,
  FoundApiKey,
  Positioned,
  RotatedApiKey,
  VerificationOutcome,
} from './types.js';

export type * from './audit-types.js';
export { KeyledgerClientError } from './error.js';
export type * from './event-types.js';
export type * from './options.js';
export type * from './types.js';

/** @throws TypeError, RangeError invalid options */
export function createClient(options: ClientOptions): Client {
  const { call, open } = createTransport(options);

  async function mutate<T extends Positioned>(request: Call): Promise<T> {
    const { answer, headers } = await call<T>(request);
    return { ...answer, position: headers.get('keyledger-position') };
  }

  async function read<T>(request: Call): Promise<T> {
    return (await call<T>(request)).answer;
  }

  return {
    createRepoAiApiKey: async (
      repoId,
      { name, aiType, expiresAt, ...others },
      { idempotencyKey = globalThis.crypto.randomUUID(), signal, ...otherOptions } = {},
    ) => {
      rejectUnknown(others, otherOptions);
      return mutate<CreatedApiKey>({
        method: 'POST',
        path: apiKeysPath(repoId),
        body: { name, aiType, expiresAt: timeText(expiresAt) },
        idempotencyKey,
        signal,
      });
    },

    getRepoAiApiKeys: async (
      repoId,
      { include, status, aiType, limit, cursor, asOf, minPosition, signal, ...others } = {},
    ) => {
      rejectUnknown(others);
      const filters = { include, status, aiType, limit, cursor, asOf: timeText(asOf) };
      return read<ApiKeyList>({
        method: 'GET',
        path: apiKeysPath(repoId) + query(filters),
        minPosition,
        signal,
      });
    },

    getRepoAiApiKey: async (repoId, apikeyId, { include, asOf, minPosition, signal, ...others } = {}) => {
      rejectUnknown(others);
      return read<FoundApiKey>({
        method: 'GET',
        path: apiKeyPath(repoId, apikeyId) + query({ include, asOf: timeText(asOf) }),
        minPosition,
        signal,
      });
    },

    updateRepoAiApiKey: async (repoId, apikeyId, { name, expiresAt, ...others }, { signal, ...otherOptions } = {}) => {
      rejectUnknown(others, otherOptions);
      return mutate<Done>({
        method: 'PUT',
        path: apiKeyPath(repoId, apikeyId),
        body: { name, expiresAt: timeText(expiresAt) },
        signal,
      });
    },

    deleteRepoAiApiKey: async (repoId, apikeyId, { signal, ...others } = {}) => {
      rejectUnknown(others);
      return mutate<Done>({ method: 'DELETE', path: apiKeyPath(repoId, apikeyId), signal });
    },

    rotateRepoAiApiKey: async (
      repoId,
      apikeyId,
      { overlapSeconds, ...others } = {},
      { idempotencyKey = globalThis.crypto.randomUUID(), signal, ...otherOptions } = {},
    ) => {
      rejectUnknown(others, otherOptions);
      return mutate<RotatedApiKey>({
        method: 'POST',
        path: `${apiKeyPath(repoId, apikeyId)}/rotate`,
        body: { overlapSeconds },
        idempotencyKey,
        signal,
      });
    },

    suspendRepoAiApiKey: async (repoId, apikeyId, { reason, ...others } = {}, { signal, ...otherOptions } = {}) => {
      rejectUnknown(others, otherOptions);
      return mutate<Done>({
        method: 'POST',
        path: `${apiKeyPath(repoId, apikeyId)}/suspend`,
        body: { reason },
        signal,
      });
    },

    resumeRepoAiApiKey: async (repoId, apikeyId, { signal, ...others } = {}) => {
      rejectUnknown(others);
      return mutate<Done>({ method: 'POST', path: `${apiKeyPath(repoId, apikeyId)}/resume`, signal });
    },

    getRepoAiApiKeyHistory: async (repoId, apikeyId, { signal, ...others } = {}) => {
      rejectUnknown(others);
      return read<ApiKeyHistory>({
        method: 'GET',
        path: `${apiKeyPath(repoId, apikeyId)}/history`,
        signal,
      });
    },

    getRepoAiAudit: async (repoId, { from, to, types, actor, apikeyId, limit, cursor, signal, ...others } = {}) => {
      rejectUnknown(others);
      const filters = { from: timeText(from), to: timeText(to), type: types?.join(), actor, apikeyId };
      return read<AuditPage>({
        method: 'GET',
        path: auditPath(repoId) + query({ ...filters, limit, cursor }),
        signal,
      });
    },

    verifyApiKey: async ({ key, secret, repoId, aiType, ...others }, { minPosition, signal, ...otherOptions } = {}) => {
      // Callers may pass the answer that issued the API key unchanged.
      const { success, id, position, ...unknown } = others as Partial<CreatedApiKey>;
      rejectUnknown(unknown, otherOptions);
      const { answer, headers } = await call<VerificationOutcome>({
        method: 'POST',
        path: '/verify',
        body: { key, secret, repoId, aiType },
        minPosition,
        signal,
      });
      return { ...answer, staleness: seconds(headers.get('keyledger-staleness')) };
    },

    revokeLeakedApiKey: async ({ key, secret }, { signal } = {}) =>
      read<Acknowledged>({
        method: 'POST',
        path: '/revoke',
        body: { key, secret },
        withoutToken: true,
        signal,
      }),

    events: (options = {}) => followEvents(open, options),
  };
}

/** JSON.stringify would turn an invalid Date into null: an API key that never expires. toISOString throws instead. */
function timeText(time: string | Date | null | undefined): string | null | undefined {
  return time === undefined || time === null || typeof time === 'string' ? time : time.toISOString();
}

function seconds(header: string | null): number | null {
  const value = Number.parseFloat(header ?? '');
  return Number.isNaN(value) ? null : value;
}
