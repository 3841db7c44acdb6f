import { type CommandContext, type Handled, handleCommand } from './handle-command.js';

/**
 * Renames a key; without a name, or with the one that it has, nothing happens.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, and what handleCommand throws
 */
export const renameAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string; readonly name?: string | undefined },
): Promise<Handled> => handleCommand(context, { type: 'RenameAiApiKey', ...input });
