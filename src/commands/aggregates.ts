import { evolve, streamOf } from '../domain/ai-api-key.js';
import { decide } from '../domain/decide-ai-api-key.js';
import { decideWebhook } from '../domain/decide-webhook.js';
import { evolveWebhook, webhookStream } from '../domain/webhook.js';
import { decode, decodeWebhook } from '../event-store/codec.js';
import { handlerOf } from './command-handler.js';

/** @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races */
export const handleApiKeyCommand = handlerOf({ streamOf, decode, evolve, decide });

/** @throws KeyledgerError what decideWebhook and append throw, and CONFLICT after ten lost races */
export const handleWebhookCommand = handlerOf({
  streamOf: webhookStream,
  decode: decodeWebhook,
  evolve: evolveWebhook,
  decide: decideWebhook,
});
