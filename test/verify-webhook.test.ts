import { describe, expect, it } from '@jest/globals';
import { Webhook as Signer } from 'standardwebhooks';
import { makeSigningSecret } from '../src/security/credentials.js';
import { verifyWebhook, WebhookVerificationError } from '../src/webhook/index.js';

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
    const upper = Object.fromEntries(
      Object.entries(signed()).map(([name, value]) => [name.toUpperCase(), value]),
    );
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
    expect(() => verifyWebhook(headers, text, [secret, makeSigningSecret()])).toThrow(
      WebhookVerificationError,
    );
  });
});
