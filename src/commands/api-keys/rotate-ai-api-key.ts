import type { AiApiKey } from '../../domain/ai-api-key.js';
import { makeSecret } from '../../security/credentials.js';
import { handleApiKeyCommand } from '../aggregates.js';
import { issueSecret, type RequestContext, rotationIdempotency } from '../issue-secret.js';
import type { IssuedKey } from './create-ai-api-key.js';

/**
 * Gives an API key a new secret; the old one stays valid for the overlap. With an Idempotency-Key, which counts for
 * this key and caller, a repeat does not rotate again and gets the first answer.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what
 * handleApiKeyCommand throws
 */
export async function rotateAiApiKey(
  context: RequestContext,
  {
    repoId,
    apiKeyId,
    overlapSeconds,
    idempotencyKey,
  }: {
    readonly repoId: string;
    readonly apiKeyId: string;
    readonly overlapSeconds: number;
    readonly idempotencyKey?: string | undefined;
  },
): Promise<IssuedKey> {
  const idempotency = rotationIdempotency(context, idempotencyKey, overlapSeconds);
  const { state, secret, position } = await issueSecret<AiApiKey>(context, {
    id: apiKeyId,
    secret: makeSecret(),
    sealContext: (secretVersion) => ({ apiKeyId, secretVersion }),
    audited: { repoId, apiKeyId, query: {} },
    handle: (seal) =>
      handleApiKeyCommand(context, apiKeyId, (before) => ({
        type: 'RotateAiApiKey',
        apiKeyId,
        repoId,
        ...seal(before),
        overlapSeconds,
        idempotency,
      })),
  });
  return { id: apiKeyId, key: state.accessKey, secret, position };
}
