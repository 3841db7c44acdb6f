import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { EndpointConfig, Webhook } from '../../domain/webhook.js';
import type { Position } from '../../event-store/position.js';
import { hashOf, makeSigningSecret } from '../../security/credentials.js';
import { handleWebhookCommand } from '../aggregates.js';
import { issueSecret, type RequestContext } from '../issue-secret.js';

/** Namespace of webhook ids that are derived from an Idempotency-Key (RFC 9562, section 5.5). */
const WEBHOOK_IDS = 'c3c1f6de-6e0e-4d0c-8f5e-0f3f9d7a2b14';

/** A webhook with its signing secret in plain text. */
export type IssuedWebhook = { readonly id: string; readonly secret: string; readonly position: Position };

/**
 * Registers a webhook, which receives events from then on. With an Idempotency-Key, its id is derived as that of an API
 * key: the stream starts once, and a repeat gets the first answer.
 * @throws KeyledgerError IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what handleWebhookCommand throws
 */
export async function registerWebhook(
  context: RequestContext,
  {
    repoId,
    url,
    types,
    description,
    idempotencyKey,
  }: EndpointConfig & { readonly repoId: string; readonly idempotencyKey?: string | undefined },
): Promise<IssuedWebhook> {
  const { issuer, subject } = context.actor;
  const webhookId =
    idempotencyKey === undefined
      ? uuidV4()
      : uuidV5(JSON.stringify([repoId, issuer, subject, idempotencyKey]), WEBHOOK_IDS);
  const idempotency =
    idempotencyKey === undefined
      ? undefined
      : { keyHash: hashOf(idempotencyKey), requestHash: hashOf(JSON.stringify([url, types, description])) };
  const data = { webhookId, repoId, url, types, description };
  const { secret, position } = await issueSecret<Webhook>(context, {
    id: webhookId,
    secret: makeSigningSecret(),
    sealContext: (secretVersion) => ({ webhookId, secretVersion }),
    audited: { repoId, apiKeyId: null, query: { webhookId } },
    handle: (seal) => {
      const { secretHash, sealedSecret } = seal(undefined);
      const command = { type: 'RegisterWebhook', ...data, secretHash, sealedSecret, idempotency } as const;
      return handleWebhookCommand(context, webhookId, command, { isNew: true });
    },
  });
  return { id: webhookId, secret, position };
}
