import type { PauseCause } from '../../domain/webhook.js';
import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Tells an endpoint nothing more until it is resumed, and keeps its place. One that is paused stays as it is.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const pauseWebhook = (
  context: CommandContext,
  input: {
    readonly repoId: string;
    readonly webhookId: string;
    readonly cause: PauseCause;
    readonly reason: string | null;
  },
): Promise<CommandResult> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'PauseWebhook', ...input }));
