import { KeyledgerError } from '../../domain/errors.js';
import { hashOf, makeSigningSecret } from '../../security/credentials.js';
import type { Keyring } from '../../security/keyring.js';
import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext } from '../command-handler.js';
import { type AuditContext, recordAuditAccess } from '../record-audit-access.js';
import type { IssuedWebhook } from './register-webhook.js';

/**
 * Gives an endpoint a new secret; the old one signs too for so many seconds. With an idempotency key, which counts for
 * this endpoint and caller, a repeat does not rotate again and gets the first answer.
 * @throws KeyledgerError IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what handleWebhookCommand throws
 */
export async function rotateWebhookSecret(
  context: CommandContext & AuditContext & { readonly keyring: Keyring },
  {
    repoId,
    webhookId,
    overlapSeconds,
    idempotencyKey,
  }: {
    readonly repoId: string;
    readonly webhookId: string;
    readonly overlapSeconds: number;
    readonly idempotencyKey?: string | undefined;
  },
): Promise<IssuedWebhook> {
  const { actor, keyring } = context;
  const secret = makeSigningSecret();
  const idempotency =
    idempotencyKey === undefined
      ? undefined
      : {
          keyHash: hashOf(JSON.stringify(['rotate', actor.issuer, actor.subject, idempotencyKey])),
          requestHash: hashOf(JSON.stringify([overlapSeconds])),
        };
  const { before, changed, position } = await handleWebhookCommand(context, webhookId, (state) => {
    const secretVersion = (state?.secretVersion ?? 0) + 1;
    const sealedSecret = keyring.seal(secret, { webhookId, secretVersion });
    const secretHash = hashOf(secret);
    const made = { secretVersion, secretHash, sealedSecret };
    return { type: 'RotateWebhookSecret', webhookId, repoId, ...made, overlapSeconds, idempotency };
  });
  if (changed) return { id: webhookId, secret, position };
  // Only an existing endpoint is rotated, so there is a state before.
  if (!before) throw new KeyledgerError('INTERNAL');

  const { sealedSecret, secretVersion, secretHash } = before;
  const first = keyring.open(sealedSecret, { webhookId, secretVersion }, secretHash);
  if (first === undefined) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: webhookId } });
  await recordAuditAccess(context, {
    access: 'repeated-secret',
    repoId,
    apiKeyId: null,
    query: { webhookId },
  });
  return { id: webhookId, secret: first, position };
}
