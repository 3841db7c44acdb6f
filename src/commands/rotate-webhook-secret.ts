import { hashOf, makeSigningSecret } from '../security/credentials.js';
import type { Keyring } from '../security/keyring.js';
import { handleWebhookCommand } from './aggregates.js';
import type { CommandContext } from './handle-command.js';
import type { GivenWebhook } from './register-webhook.js';

/**
 * Gives an endpoint a new secret; the old one signs too for so many seconds.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export async function rotateWebhookSecret(
  context: CommandContext & { readonly keyring: Keyring },
  input: { readonly repoId: string; readonly webhookId: string; readonly overlapSeconds: number },
): Promise<GivenWebhook> {
  const { webhookId } = input;
  const secret = makeSigningSecret();
  const { position } = await handleWebhookCommand(context, webhookId, (state) => {
    const secretVersion = (state?.secretVersion ?? 0) + 1;
    const sealedSecret = context.keyring.seal(secret, { webhookId, secretVersion });
    return {
      type: 'RotateWebhookSecret',
      ...input,
      secretVersion,
      secretHash: hashOf(secret),
      sealedSecret,
    };
  });
  return { id: webhookId, secret, position };
}
