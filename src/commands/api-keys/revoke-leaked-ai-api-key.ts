import type { AiApiKey } from '../../domain/ai-api-key.js';
import type { Position } from '../../event-store/position.js';
import { hashOf, isAccessKey, isSecret } from '../../security/credentials.js';
import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext } from '../command-handler.js';

/** Issuer of the actor that revokes a leaked key: any holder of its secret. */
const SECRET_HOLDER_ISSUER = 'keyledger:holder';

type Credential = { readonly accessKey: string; readonly secret: string };

/**
 * Deletes, as leaked, the API key whose valid secret the caller holds; any other credential changes nothing.
 * @param find finds the key of a credential once the instance has read the log up to a position, which may hold its
 * creation or rotation
 * @returns a position of the log that holds the deletion; undefined for a malformed credential
 * @throws KeyledgerError BEHIND, and what handleApiKeyCommand throws
 */
export async function revokeLeakedAiApiKey(
  context: Omit<CommandContext, 'actor'>,
  find: (credential: Credential, minPosition: Position) => Promise<AiApiKey | undefined>,
  credential: Credential,
): Promise<Position | undefined> {
  const { accessKey, secret } = credential;
  if (!isAccessKey(accessKey) || !isSecret(secret)) return undefined;
  const end = await context.log.end();
  const key = await find(credential, end);
  if (!key) return end;
  const { apiKeyId, repoId } = key;
  const actor = { issuer: SECRET_HOLDER_ISSUER, subject: apiKeyId };
  const { position } = await handleApiKeyCommand({ ...context, actor }, apiKeyId, {
    type: 'RevokeLeakedAiApiKey',
    apiKeyId,
    repoId,
    secretHash: hashOf(secret),
  });
  return position;
}
