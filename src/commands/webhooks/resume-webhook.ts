import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Goes on with an endpoint where it was paused.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const resumeWebhook = (
  context: CommandContext,
  input: { readonly repoId: string; readonly webhookId: string },
): Promise<CommandResult> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'ResumeWebhook', ...input }));
