import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Ends an endpoint for good, one with an unreadable history too. Its events stay.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const deleteWebhook = (
  context: CommandContext,
  input: { readonly repoId: string; readonly webhookId: string },
): Promise<CommandResult> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'DeleteWebhook', ...input }));
