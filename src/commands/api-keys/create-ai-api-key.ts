import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { AiApiKey, AiType } from '../../domain/ai-api-key.js';
import type { Position } from '../../event-store/position.js';
import { hashOf, makeAccessKey, makeSecret } from '../../security/credentials.js';
import { handleApiKeyCommand } from '../aggregates.js';
import { issueSecret, type RequestContext } from '../issue-secret.js';

/** Namespace of key ids that are derived from an Idempotency-Key (RFC 9562, section 5.5). */
const KEY_IDS = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';

type CreateAiApiKeyInput = {
  readonly repoId: string;
  readonly name: string;
  readonly aiType: AiType;
  /** RFC 3339 in UTC with milliseconds; null: never. */
  readonly expiresAt: string | null;
  readonly idempotencyKey?: string | undefined;
};

/** An API key with its secret in plain text. */
export type IssuedKey = {
  readonly id: string;
  readonly key: string;
  readonly secret: string;
  readonly position: Position;
};

/**
 * Creates an API key. With an Idempotency-Key, its id is derived from (repository, caller, Idempotency-Key): the stream
 * starts once, and a repeat gets the first answer.
 * @throws KeyledgerError INVALID_INPUT, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED; what handleApiKeyCommand throws
 */
export async function createAiApiKey(
  context: RequestContext,
  { repoId, name, aiType, expiresAt, idempotencyKey }: CreateAiApiKeyInput,
): Promise<IssuedKey> {
  const { issuer, subject } = context.actor;
  const apiKeyId =
    idempotencyKey === undefined
      ? uuidV4()
      : uuidV5(JSON.stringify([repoId, issuer, subject, idempotencyKey]), KEY_IDS);
  const accessKey = makeAccessKey();
  // A request without an expiry hashes as in the first release, so that repeats across the upgrade match.
  const request = expiresAt === null ? [name, aiType] : [name, aiType, expiresAt];
  const idempotency =
    idempotencyKey === undefined
      ? undefined
      : { keyHash: hashOf(idempotencyKey), requestHash: hashOf(JSON.stringify(request)) };
  const { state, secret, position } = await issueSecret<AiApiKey>(context, {
    id: apiKeyId,
    secret: makeSecret(),
    sealContext: (secretVersion) => ({ apiKeyId, secretVersion }),
    audited: { repoId, apiKeyId, query: {} },
    handle: (seal) => {
      const { secretHash, sealedSecret } = seal(undefined);
      return handleApiKeyCommand(
        context,
        apiKeyId,
        {
          type: 'CreateAiApiKey',
          apiKeyId,
          repoId,
          name,
          aiType,
          accessKey,
          secretHash,
          sealedSecret,
          expiresAt,
          idempotency,
        },
        { isNew: true },
      );
    },
  });
  return { id: apiKeyId, key: state.accessKey, secret, position };
}
