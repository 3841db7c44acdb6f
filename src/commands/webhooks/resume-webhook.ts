import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, Handled } from '../command-handler.js';

/**
 * Goes on with an endpoint where it was paused.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const resumeWebhook = (
  context: CommandContext,
  input: { readonly repoId: string; readonly webhookId: string },
): Promise<Handled> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'ResumeWebhook', ...input }));
