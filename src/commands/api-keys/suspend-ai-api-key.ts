import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Makes a key invalid until it is resumed; one that is suspended already stays as it is.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, and what handleApiKeyCommand throws
 */
export const suspendAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string; readonly reason: string | null },
): Promise<CommandResult> =>
  handleApiKeyCommand(context, input.apiKeyId, () => ({ type: 'SuspendAiApiKey', ...input }));
