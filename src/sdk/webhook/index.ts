/** Verification of webhook calls, for endpoints. */
import { Webhook } from 'standardwebhooks';
import type { KeyledgerEvent } from '../client/event-types.js';

export { WebhookVerificationError } from 'standardwebhooks';
export type { KeyledgerEvent } from '../client/event-types.js';

/** Headers as Node or fetch represent them. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

/** An event, or the WebhookPing of a test, which is in no log and so has no position. */
export type WebhookBody = Omit<KeyledgerEvent, 'position'> & { readonly position?: string };

/**
 * Returns the event of a call if Keyledger has signed it within the last five minutes
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). A call may arrive more
 * than once, with the same `id`.
 * @param body as received, not parsed and serialised again
 * @param secret whsec_…; of several, as during a rotation, any may have signed
 * @throws WebhookVerificationError Keyledger has not signed it: answer 400
 * @throws TypeError a secret is missing or malformed, whatever the call is
 */
export function verifyWebhook(
  headers: WebhookHeaders,
  body: string | Uint8Array,
  secret: string | readonly string[],
): WebhookBody {
  const text = typeof body === 'string' ? body : new TextDecoder().decode(body);
  const given = headers instanceof Headers ? Object.fromEntries(headers) : headers;
  const single = Object.fromEntries(
    Object.entries(given).flatMap(([name, value]) => (typeof value === 'string' ? [[name.toLowerCase(), value]] : [])),
  );
  let refusal: unknown;
  for (const webhook of toVerifiers(secret)) {
    try {
      return webhook.verify(text, single) as WebhookBody;
    } catch (error) {
      refusal = error;
    }
  }
  throw refusal;
}

/** Size of a signing secret in bytes, by the Standard Webhooks specification. */
const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;
const SECRET_RULE = `must be the secret issued when the webhook was registered or its secret rotated: whsec_ and base64 of ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes`;
const SECRET = /^whsec_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/;

/** Checks every secret, even if the first one has signed: a malformed one shows before it is needed. */
function toVerifiers(secret: string | readonly string[]): Webhook[] {
  const secrets: readonly unknown[] = Array.isArray(secret) ? secret : [secret];
  if (secrets.length === 0) throw new TypeError('The list of signing secrets is empty');
  return secrets.map((one, i) => {
    const name = secrets.length > 1 ? `Signing secret ${i + 1} of ${secrets.length}` : 'The signing secret';
    if (one === undefined || one === null || one === '') throw new TypeError(`${name} is missing: it ${SECRET_RULE}`);
    // Files and settings may add white space. The message does not quote the secret: it may be nearly right.
    const text = typeof one === 'string' ? one.trim() : '';
    const bytes = atob(SECRET.exec(text)?.[1] ?? '').length;
    if (bytes < MIN_SECRET_BYTES || bytes > MAX_SECRET_BYTES) throw new TypeError(`${name} ${SECRET_RULE}`);
    return new Webhook(text);
  });
}
