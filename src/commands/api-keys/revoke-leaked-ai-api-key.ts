import { hashOf } from '../../security/credentials.js';
import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/** Who revokes a leaked key: nobody but the holder of its secret, whoever that is. */
const SECRET_HOLDER_ISSUER = 'keyledger:holder';

/**
 * Deletes a key, as leaked, for whoever proves to hold a secret of it that is good; else nothing happens.
 * @throws KeyledgerError what handleApiKeyCommand throws
 */
export const revokeLeakedAiApiKey = (
  context: Omit<CommandContext, 'actor'>,
  {
    repoId,
    apiKeyId,
    secret,
  }: { readonly repoId: string; readonly apiKeyId: string; readonly secret: string },
): Promise<CommandResult> =>
  handleApiKeyCommand(
    { ...context, actor: { issuer: SECRET_HOLDER_ISSUER, subject: apiKeyId } },
    apiKeyId,
    () => ({
      type: 'RevokeLeakedAiApiKey',
      apiKeyId,
      repoId,
      secretHash: hashOf(secret),
    }),
  );
