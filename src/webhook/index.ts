/** For endpoints that Keyledger calls. */
import { Webhook } from 'standardwebhooks';
import type { KeyledgerEvent } from '../client/event-types.js';

export { WebhookVerificationError } from 'standardwebhooks';
export type { KeyledgerEvent } from '../client/event-types.js';

/** As Node or fetch have them. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

/** An event, or the WebhookPing of a test, which is in no log and so has no position. */
export type WebhookBody = Omit<KeyledgerEvent, 'position'> & { readonly position?: string };

/**
 * The event that a call brings, if Keyledger has signed it within the last five minutes
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). A call may come more than
 * once: the event's `id` is the same then.
 * @param body as it came, not parsed and written again
 * @param secret whsec_…; of several, as while one is being replaced, any may have signed
 * @throws WebhookVerificationError it has not: answer with 400
 */
export function verifyWebhook(
  headers: WebhookHeaders,
  body: string | Uint8Array,
  secret: string | readonly string[],
): WebhookBody {
  const text = typeof body === 'string' ? body : new TextDecoder().decode(body);
  const given = headers instanceof Headers ? Object.fromEntries(headers) : headers;
  const single = Object.fromEntries(
    Object.entries(given).flatMap(([name, value]) =>
      typeof value === 'string' ? [[name.toLowerCase(), value]] : [],
    ),
  );
  const [first, ...others] = typeof secret === 'string' ? [secret] : secret;
  if (first === undefined) throw new TypeError('There is no secret');
  try {
    return new Webhook(first).verify(text, single) as WebhookBody;
  } catch (error) {
    if (others.length === 0) throw error;
    return verifyWebhook(headers, text, others);
  }
}
