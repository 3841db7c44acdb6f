import { type CommandContext, type Handled, handleCommand } from './handle-command.js';

/**
 * Ends the suspension of a key; nothing happens if it is not suspended.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, and what handleCommand throws
 */
export const resumeAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string },
): Promise<Handled> => handleCommand(context, input.apiKeyId, () => ({ type: 'ResumeAiApiKey', ...input }));
