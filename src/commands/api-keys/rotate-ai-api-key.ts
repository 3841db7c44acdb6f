import { KeyledgerError } from '../../domain/errors.js';
import { hashOf, makeSecret } from '../../security/credentials.js';
import type { Keyring } from '../../security/keyring.js';
import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext } from '../command-handler.js';
import { type AuditContext, recordAuditAccess } from '../record-audit-access.js';
import type { IssuedKey } from './create-ai-api-key.js';

/**
 * Gives a key a new secret; the old one stays good for so many seconds. With an idempotency key, which
 * counts for this key and caller, a repeat does not rotate again and gets the first answer.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and
 * what handleApiKeyCommand throws
 */
export async function rotateAiApiKey(
  context: CommandContext & AuditContext & { readonly keyring: Keyring },
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
  const { actor, keyring } = context;
  const secret = makeSecret();
  const idempotency =
    idempotencyKey === undefined
      ? undefined
      : {
          keyHash: hashOf(JSON.stringify(['rotate', actor.issuer, actor.subject, idempotencyKey])),
          requestHash: hashOf(JSON.stringify([overlapSeconds])),
        };
  const { before, changed, position } = await handleApiKeyCommand(context, apiKeyId, (state) => {
    const secretVersion = (state?.secretVersion ?? 0) + 1;
    const sealedSecret = keyring.seal(secret, { apiKeyId, secretVersion });
    const secretHash = hashOf(secret);
    return {
      type: 'RotateAiApiKey',
      apiKeyId,
      repoId,
      secretVersion,
      secretHash,
      sealedSecret,
      overlapSeconds,
      idempotency,
    };
  });
  // Only an existing key is rotated, so there is a state before.
  if (!before) throw new KeyledgerError('INTERNAL');
  const key = before.accessKey;
  if (changed) return { id: apiKeyId, key, secret, position };

  const { sealedSecret, secretVersion, secretHash } = before;
  const first = keyring.open(sealedSecret, { apiKeyId, secretVersion }, secretHash);
  if (first === undefined) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: apiKeyId } });
  await recordAuditAccess(context, { access: 'repeated-secret', repoId, apiKeyId, query: {} });
  return { id: apiKeyId, key, secret: first, position };
}
