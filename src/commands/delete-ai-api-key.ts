import { type CommandContext, type Handled, handleCommand } from './handle-command.js';

/**
 * Deletes a key for good, one with an unreadable history too. Its events stay.
 * @throws KeyledgerError KEY_NOT_FOUND, and what handleCommand throws
 */
export const deleteAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string },
): Promise<Handled> => handleCommand(context, input.apiKeyId, () => ({ type: 'DeleteAiApiKey', ...input }));
