import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Changes where an endpoint is, or what it is told of. What is not given, or is so already, stays as it is.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const changeWebhook = (
  context: CommandContext,
  input: {
    readonly repoId: string;
    readonly webhookId: string;
    readonly url?: string | undefined;
    readonly types?: readonly string[] | null | undefined;
    readonly description?: string | null | undefined;
  },
): Promise<CommandResult> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'ChangeWebhook', ...input }));
