import { apiKeyStream, evolveApiKey } from '../domain/ai-api-key.js';
import { decideApiKey } from '../domain/decide-ai-api-key.js';
import { decideWebhook } from '../domain/decide-webhook.js';
import { evolveWebhook, webhookStream } from '../domain/webhook.js';
import { decode, decodeWebhook } from '../event-store/codec.js';
import { handlerOf } from './command-handler.js';

/** @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races */
export const handleApiKeyCommand = handlerOf({
  stream: apiKeyStream,
  decode,
  evolve: evolveApiKey,
  decide: decideApiKey,
});

/** @throws KeyledgerError what decideWebhook and append throw, and CONFLICT after ten lost races */
export const handleWebhookCommand = handlerOf({
  stream: webhookStream,
  decode: decodeWebhook,
  evolve: evolveWebhook,
  decide: decideWebhook,
});
