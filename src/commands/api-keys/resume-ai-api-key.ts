import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Ends the suspension of a key; nothing happens if it is not suspended.
 * @throws KeyledgerError KEY_NOT_FOUND, KEY_QUARANTINED, and what handleApiKeyCommand throws
 */
export const resumeAiApiKey = (
  context: CommandContext,
  input: { readonly repoId: string; readonly apiKeyId: string },
): Promise<CommandResult> =>
  handleApiKeyCommand(context, input.apiKeyId, () => ({ type: 'ResumeAiApiKey', ...input }));
