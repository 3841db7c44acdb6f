import { handleApiKeyCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Renames a key, or moves its expiry: a moment in the future, RFC 3339 in UTC with milliseconds, or null
 * for never. An expired key revives. What is not given, or is so already, stays as it is.
 * @throws KeyledgerError INVALID_INPUT, KEY_NOT_FOUND, KEY_QUARANTINED, and what handleApiKeyCommand throws
 */
export const updateAiApiKey = (
  context: CommandContext,
  input: {
    readonly repoId: string;
    readonly apiKeyId: string;
    readonly name?: string | undefined;
    readonly expiresAt?: string | null | undefined;
  },
): Promise<CommandResult> =>
  handleApiKeyCommand(context, input.apiKeyId, () => ({ type: 'UpdateAiApiKey', ...input }));
