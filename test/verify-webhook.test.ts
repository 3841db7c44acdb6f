import { describe, expect, it } from '@jest/globals';
import { Webhook as Signer } from 'standardwebhooks';
import { verifyWebhook, WebhookVerificationError } from '../src/sdk/webhook/index.js';
import { makeSigningSecret } from '../src/security/credentials.js';

const secret = makeSigningSecret();
const event = { id: 'e1', type: 'ApiKeyCreated', data: { name: 'Suche 🔑' } };
const body = JSON.stringify(event);

function signed(by = secret, at = new Date()): Record<string, string> {
  return {
    'webhook-id': 'e1',
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': new Signer(by).sign('e1', at, body),
  };
}

describe('verifyWebhook', () => {
  it('gives the event of a call that was signed, with headers and body as Node or fetch have them', () => {
    expect(verifyWebhook(signed(), body, secret)).toEqual(event);
    expect(verifyWebhook(new Headers(signed()), Buffer.from(body), secret)).toEqual(event);
    expect(verifyWebhook({ ...signed(), accept: ['a', 'b'], te: undefined }, body, secret)).toEqual(event);
    const upper = Object.fromEntries(Object.entries(signed()).map(([name, value]) => [name.toUpperCase(), value]));
    expect(verifyWebhook(upper, body, secret)).toEqual(event);
  });

  it('takes a call that one of several secrets has signed', () => {
    const next = makeSigningSecret();
    expect(verifyWebhook(signed(next), body, [secret, next])).toEqual(event);
    const both = `${signed()['webhook-signature']} ${signed(next)['webhook-signature']}`;
    for (const one of [secret, next]) {
      expect(verifyWebhook({ ...signed(), 'webhook-signature': both }, body, one)).toEqual(event);
    }
  });

  it('takes a secret with the white space that a file or a setting adds', () => {
    expect(verifyWebhook(signed(), body, ` ${secret}\n`)).toEqual(event);
  });

  it.each<[what: string, given: unknown, says: RegExp]>([
    ['missing', undefined, /^The signing secret is missing: it must be the secret issued when/],
    ['null', null, /^The signing secret is missing/],
    ['empty', '', /^The signing secret is missing/],
    ['no list of any', [], /^The list of signing secrets is empty$/],
    ['missing beside a good one', [secret, undefined], /^Signing secret 2 of 2 is missing/],
    ['no base64', 'whsec_secret that is none!', /^The signing secret must be .* whsec_ and base64/],
    ['cut off', secret.slice(0, 20), /^The signing secret must be/],
    ['cut off by one character', secret.slice(0, -2), /^The signing secret must be/],
    ['that of an API key', `secret_${'a'.repeat(49)}`, /^The signing secret must be/],
    ['no text', 7, /^The signing secret must be/],
  ])('says of a secret that is %s what it must be, and does not quote it', (_, given, says) => {
    const call = () => verifyWebhook(signed(), body, given as string);
    expect(call).toThrow(TypeError);
    expect(call).toThrow(says);
    if (typeof given === 'string' && given !== '') expect(call).not.toThrow(given);
  });

  const old = new Date(Date.now() - 6 * 60_000);
  it.each([
    ['of another secret', signed(makeSigningSecret()), body],
    ['of another body', signed(), `${body} `],
    ['with another id', { ...signed(), 'webhook-id': 'e2' }, body],
    ['from long ago', signed(secret, old), body],
    ['from the future', signed(secret, new Date(Date.now() + 6 * 60_000)), body],
    [
      'with another time than was signed',
      { ...signed(secret, old), 'webhook-timestamp': signed()['webhook-timestamp'] },
      body,
    ],
    ['without a signature', { ...signed(), 'webhook-signature': undefined }, body],
    ['with an empty one', { ...signed(), 'webhook-signature': '' }, body],
    ['without any header', {}, body],
  ])('refuses a call %s', (_, headers, text) => {
    expect(() => verifyWebhook(headers, text, secret)).toThrow(WebhookVerificationError);
    expect(() => verifyWebhook(headers, text, [secret, makeSigningSecret()])).toThrow(WebhookVerificationError);
  });
});
