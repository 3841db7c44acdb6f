import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Deletes a key for good, one with an unreadable history too. Its events stay.
 * @throws KeyledgerError KEY_NOT_FOUND, and what handleApiKeyCommand throws
 */
export const deleteAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string },
): Promise<CommandResult> =>
  handleApiKeyCommand(context, input.apiKeyId, () => ({ type: 'DeleteAiApiKey', ...input }));
