import type { Position } from '../../event-store/position.js';
import { handleWebhookCommand } from '../aggregates.js';
import type { CommandContext, CommandResult } from '../command-handler.js';

/**
 * Tells an endpoint again what comes behind a position of the log; null: everything. What is before it is not told, though it never was.
 * @throws KeyledgerError what handleWebhookCommand throws
 */
export const replayWebhook = (
  context: CommandContext,
  input: { readonly repoId: string; readonly webhookId: string; readonly after: Position | null },
): Promise<CommandResult> =>
  handleWebhookCommand(context, input.webhookId, () => ({ type: 'ReplayWebhook', ...input }));
