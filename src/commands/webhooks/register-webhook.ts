import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';
import { hashOf, makeSigningSecret } from '../../security/credentials.js';
import type { Keyring } from '../../security/keyring.js';
import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext } from '../command-handler.js';
import { type AuditContext, recordAuditAccess } from '../record-audit-access.js';

/** Namespace of webhook ids that are derived from an Idempotency-Key (RFC 9562, section 5.5). */
const WEBHOOK_IDS = 'c3c1f6de-6e0e-4d0c-8f5e-0f3f9d7a2b14';

/** The only place outside the log's sealed form, and the signing of calls, where the secret ever is. */
export type IssuedWebhook = { readonly id: string; readonly secret: string; readonly position: Position };

/**
 * Registers an endpoint, which from then on is told of what happens. With an idempotency key it is registered once, as a key is created.
 * @param types null: every type but AuditAccessed
 * @throws KeyledgerError IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED, and what handleWebhookCommand throws
 */
export async function registerWebhook(
  context: CommandContext & AuditContext & { readonly keyring: Keyring },
  {
    repoId,
    url,
    types,
    description,
    idempotencyKey,
  }: {
    readonly repoId: string;
    readonly url: string;
    readonly types: readonly string[] | null;
    readonly description: string | null;
    readonly idempotencyKey?: string | undefined;
  },
): Promise<IssuedWebhook> {
  const { actor, keyring } = context;
  const webhookId =
    idempotencyKey === undefined
      ? uuidV4()
      : uuidV5(JSON.stringify([repoId, actor.issuer, actor.subject, idempotencyKey]), WEBHOOK_IDS);
  const secret = makeSigningSecret();
  const sealContext = { webhookId, secretVersion: 1 };
  const register = () => ({
    type: 'RegisterWebhook' as const,
    webhookId,
    repoId,
    url,
    types,
    description,
    secretHash: hashOf(secret),
    sealedSecret: keyring.seal(secret, sealContext),
    idempotency:
      idempotencyKey === undefined
        ? undefined
        : { keyHash: hashOf(idempotencyKey), requestHash: hashOf(JSON.stringify([url, types, description])) },
  });
  const { before, changed, position } = await handleWebhookCommand(
    context,
    webhookId,
    register,
    'assume empty',
  );
  if (changed) return { id: webhookId, secret, position };
  // Nothing changes only where there is an endpoint already.
  if (!before) throw new KeyledgerError('INTERNAL');

  const first = keyring.open(before.sealedSecret, sealContext, before.secretHash);
  if (first === undefined) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: webhookId } });
  await recordAuditAccess(context, {
    access: 'repeated-secret',
    repoId,
    apiKeyId: null,
    query: { webhookId },
  });
  return { id: webhookId, secret: first, position };
}
