import { KeyledgerError } from './errors.js';
import { isReplay, overlapEnd } from './idempotency.js';
import type {
  ChangeWebhook,
  RegisterWebhook,
  RotateWebhookSecret,
  Webhook,
  WebhookCommand,
  WebhookEvent,
  WebhookRef,
} from './webhook.js';

/**
 * Decides which events a command causes; none if it changes nothing.
 * @param now RFC 3339
 * @throws KeyledgerError WEBHOOK_NOT_FOUND, WEBHOOK_QUARANTINED, CONFLICT, IDEMPOTENCY_KEY_REUSED or _USED
 */
export function decideWebhook(command: WebhookCommand, state: Webhook | undefined, now: string): WebhookEvent[] {
  const { webhookId, repoId } = command;
  const ref = { webhookId, repoId };
  switch (command.type) {
    case 'RegisterWebhook':
      return decideRegister(command, state, now);
    case 'ChangeWebhook':
      return decideChange(command, requireWritable(command, state));
    case 'RotateWebhookSecret':
      return decideRotate(command, requireWritable(command, state), now);
    case 'PauseWebhook': {
      const { cause, reason } = command;
      const { status } = requireWritable(command, state);
      return status === 'paused' ? [] : [{ type: 'WebhookPaused', data: { ...ref, cause, reason } }];
    }
    case 'ResumeWebhook': {
      const { status } = requireWritable(command, state);
      return status === 'paused' ? [{ type: 'WebhookResumed', data: ref }] : [];
    }
    case 'ReplayWebhook':
      requireWritable(command, state);
      return [{ type: 'WebhookReplayed', data: { ...ref, after: command.after } }];
    case 'DeleteWebhook':
      requireExisting(command, state);
      return [{ type: 'WebhookDeleted', data: ref }];
  }
}

/** A registration meets an existing webhook only if its id was derived from the same Idempotency-Key. */
function decideRegister(
  { type: _, ...data }: RegisterWebhook,
  state: Webhook | undefined,
  now: string,
): WebhookEvent[] {
  if (!state) return [{ type: 'WebhookRegistered', data }];
  if (state.status === 'unavailable') throw quarantinedError(state);
  if (!isReplay(data.idempotency, replayStateOf(state), now)) throw new KeyledgerError('CONFLICT');
  return [];
}

function decideRotate(command: RotateWebhookSecret, webhook: Webhook, now: string): WebhookEvent[] {
  const { type: _, overlapSeconds, ...data } = command;
  if (isReplay(command.idempotency, replayStateOf(webhook), now)) return [];
  const overlapEndsAt = overlapEnd(now, overlapSeconds);
  return [{ type: 'WebhookSecretRotated', data: { ...data, overlapEndsAt } }];
}

/** A signing secret grants no access, so a repeated request gets that of a paused webhook, too. */
const replayStateOf = (webhook: Webhook) => ({
  ...webhook,
  id: webhook.webhookId,
  secretReplayable: true,
  expiresAt: null,
});

function decideChange(command: ChangeWebhook, webhook: Webhook): WebhookEvent[] {
  const { webhookId, repoId, url = webhook.url } = command;
  const { types = webhook.types, description = webhook.description } = command;
  const isSame =
    url === webhook.url &&
    description === webhook.description &&
    JSON.stringify(types) === JSON.stringify(webhook.types);
  return isSame ? [] : [{ type: 'WebhookChanged', data: { webhookId, repoId, url, types, description } }];
}

function requireExisting(command: WebhookRef, state: Webhook | undefined): Webhook {
  if (!state || state.status === 'deleted' || state.repoId !== command.repoId) {
    throw new KeyledgerError('WEBHOOK_NOT_FOUND');
  }
  return state;
}

function requireWritable(command: WebhookRef, state: Webhook | undefined): Webhook {
  const webhook = requireExisting(command, state);
  if (webhook.status === 'unavailable') throw quarantinedError(webhook);
  return webhook;
}

const quarantinedError = ({ webhookId }: Webhook) =>
  new KeyledgerError('WEBHOOK_QUARANTINED', { details: { id: webhookId } });
