import type { Webhook } from '../../domain/webhook.js';
import { makeSigningSecret } from '../../security/credentials.js';
import { handleWebhookCommand } from '../aggregates.js';
import { issueSecret, type RequestContext, rotationIdempotency } from '../issue-secret.js';
import type { IssuedWebhook } from './register-webhook.js';

/**
 * Gives a webhook a new signing secret; the old one signs as well during the overlap. With an Idempotency-Key, which
 * counts for this webhook and caller, a repeat does not rotate again and gets the first answer.
 * @throws KeyledgerError WEBHOOK_NOT_FOUND, WEBHOOK_QUARANTINED, IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what
 * handleWebhookCommand throws
 */
export async function rotateWebhookSecret(
  context: RequestContext,
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
  const idempotency = rotationIdempotency(context, idempotencyKey, overlapSeconds);
  const { secret, position } = await issueSecret<Webhook>(context, {
    id: webhookId,
    secret: makeSigningSecret(),
    sealContext: (secretVersion) => ({ webhookId, secretVersion }),
    audited: { repoId, apiKeyId: null, query: { webhookId } },
    handle: (seal) =>
      handleWebhookCommand(context, webhookId, (before) => ({
        type: 'RotateWebhookSecret',
        webhookId,
        repoId,
        ...seal(before),
        overlapSeconds,
        idempotency,
      })),
  });
  return { id: webhookId, secret, position };
}
