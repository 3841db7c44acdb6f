import { apiKeyStream, evolveApiKey } from '../domain/ai-api-key.js';
import { decideApiKey } from '../domain/decide-ai-api-key.js';
import { decideWebhook } from '../domain/decide-webhook.js';
import { evolveWebhook, webhookStream } from '../domain/webhook.js';
import { decodeApiKeyEvent, decodeWebhookEvent } from '../event-store/codec.js';
import { commandHandler } from './command-handler.js';

/**
 * @throws KeyledgerError what decideApiKey and append throw, CONFLICT after ten attempts, UNAVAILABLE if it queued too
 * long
 */
export const handleApiKeyCommand = commandHandler({
  stream: apiKeyStream,
  decode: decodeApiKeyEvent,
  evolve: evolveApiKey,
  decide: decideApiKey,
});

/**
 * @throws KeyledgerError what decideWebhook and append throw, CONFLICT after ten attempts, UNAVAILABLE if it queued too
 * long
 */
export const handleWebhookCommand = commandHandler({
  stream: webhookStream,
  decode: decodeWebhookEvent,
  evolve: evolveWebhook,
  decide: decideWebhook,
});
