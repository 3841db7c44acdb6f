import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { AiType } from '../../domain/ai-api-key.js';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';
import { hashOf, makeAccessKey, makeSecret } from '../../security/credentials.js';
import type { Keyring } from '../../security/keyring.js';
import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext } from '../command-handler.js';
import { type AuditContext, recordAuditAccess } from '../record-audit-access.js';

/** Namespace of key ids that are derived from an Idempotency-Key (RFC 9562, section 5.5). */
const KEY_IDS = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';

export type CreateAiApiKeyInput = {
  readonly repoId: string;
  readonly name: string;
  readonly aiType: AiType;
  /** RFC 3339 in UTC with milliseconds; null for never. */
  readonly expiresAt: string | null;
  readonly idempotencyKey?: string | undefined;
};

/** The only place outside the log's sealed form where the secret ever is. */
export type IssuedKey = {
  readonly id: string;
  readonly key: string;
  readonly secret: string;
  readonly position: Position;
};

/**
 * Creates a key. With an idempotency key the id is derived from (repository, caller, idempotency
 * key): its stream starts once, and a repeat is answered from the event that started it.
 * @throws KeyledgerError INVALID_INPUT, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what handleApiKeyCommand throws
 */
export async function createAiApiKey(
  context: CommandContext & AuditContext & { readonly keyring: Keyring },
  { repoId, name, aiType, expiresAt, idempotencyKey }: CreateAiApiKeyInput,
): Promise<IssuedKey> {
  const { actor, keyring } = context;
  const apiKeyId =
    idempotencyKey === undefined
      ? uuidV4()
      : uuidV5(JSON.stringify([repoId, actor.issuer, actor.subject, idempotencyKey]), KEY_IDS);
  const accessKey = makeAccessKey();
  const secret = makeSecret();
  // Without an expiry as the first release hashed it, so that its requests can be repeated.
  const request = expiresAt === null ? [name, aiType] : [name, aiType, expiresAt];
  // What would be refused may be the repeat of a creation that was not.
  const isPast = expiresAt !== null && Date.parse(expiresAt) <= context.clock();
  const sealContext = { apiKeyId, secretVersion: 1 };
  const { before, changed, position } = await handleApiKeyCommand(
    context,
    apiKeyId,
    () => ({
      type: 'CreateAiApiKey',
      apiKeyId,
      repoId,
      name,
      aiType,
      accessKey,
      secretHash: hashOf(secret),
      sealedSecret: keyring.seal(secret, sealContext),
      expiresAt,
      idempotency:
        idempotencyKey === undefined
          ? undefined
          : { keyHash: hashOf(idempotencyKey), requestHash: hashOf(JSON.stringify(request)) },
    }),
    isPast ? 'load' : 'assume empty',
  );
  if (changed) return { id: apiKeyId, key: accessKey, secret, position };
  // Nothing changes only where there is a key already.
  if (!before) throw new KeyledgerError('INTERNAL');

  const first = keyring.open(before.sealedSecret, sealContext, before.secretHash);
  if (first === undefined) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: apiKeyId } });
  await recordAuditAccess(context, { access: 'repeated-secret', repoId, apiKeyId, query: {} });
  return { id: apiKeyId, key: before.accessKey, secret: first, position };
}
