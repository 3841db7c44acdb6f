import type { Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  AUDIENCE,
  good,
  ISSUER,
  jwt,
  keySet,
  SECONDS,
  serveKeys,
  tokenConfigurations,
  verifierWith,
} from './support/fixtures/jwt.js';

let keys: Server;
beforeAll(async () => {
  keys = (await serveKeys(keySet)).server;
});
afterAll(() => void keys.close());

describe.each(tokenConfigurations)('where the claims of tokens are checked with $name', ({ key, header, sign }) => {
  const callerOf = async (token: string) => verifierWith(key(keys))(token);
  const refused = (token: string) => expect(callerOf(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  const signed = (claims: object | string | Buffer, more: object = {}) => jwt({ ...header, ...more }, claims, sign);

  it.each([
    ['as text', { exp: String(SECONDS + 60) }],
    ['null', { exp: null }],
    ['a list', { exp: [SECONDS + 60] }],
    ['true', { exp: true }],
    ['0', { exp: 0 }],
    ['negative', { exp: -SECONDS - 60 }],
    ['just now', { exp: SECONDS }],
    ['a moment ago', { exp: SECONDS - 0.001 }],
    ['in milliseconds, long ago', { exp: 1 }],
  ])('an expiry that is %s is refused', async (_, change) => refused(signed({ ...good, ...change })));

  it.each(['NaN', 'Infinity', '0x7fffffff', '1e999', '-1e999', '"soon"', ''])(
    'an expiry of %s is refused',
    async (exp) => refused(signed(JSON.stringify(good).replace(`"exp":${good.exp}`, `"exp":${exp}`))),
  );

  it.each([
    ['not before later', { nbf: SECONDS + 6 }],
    ['control characters in its subject', { sub: 'ada\n2026-01-01  ApiKeyDeleted by root\u001b[31m' }],
    ['a line separator in its subject', { sub: 'ada\u2028root' }],
    ['half a character in its subject', { sub: 'ada\ud800' }],
    ['not before a text', { nbf: '0' }],
    ['not before null', { nbf: null }],
    ['issued as a text', { iat: 'now' }],
    ['another issuer', { iss: 'https://issuer.example.evil.example' }],
    ['an issuer with a slash more', { iss: `${ISSUER}/` }],
    ['an issuer in capitals', { iss: ISSUER.toUpperCase() }],
    ['a list of issuers', { iss: [ISSUER] }],
    ['no issuer', { iss: undefined }],
    ['the issuer null', { iss: null }],
    ['no audience', { aud: undefined }],
    ['another audience', { aud: 'keyledger-staging' }],
    ['the audience in capitals', { aud: 'KEYLEDGER' }],
    ['no audience in a list', { aud: [] }],
    ['audiences of others', { aud: ['a', 'b'] }],
    ['an audience within a list within a list', { aud: [[AUDIENCE]] }],
    ['an object of audiences', { aud: { [AUDIENCE]: true, 0: AUDIENCE, length: 1 } }],
    ['a number for a subject', { sub: 7 }],
    ['a list of subjects', { sub: ['ada'] }],
    ['an object for a subject', { sub: { toString: 'ada' } }],
    ['true for a subject', { sub: true }],
    ['no subject', { sub: undefined }],
  ])('a token with %s is refused', async (_, change) => refused(signed({ ...good, ...change })));

  it('a token whose issuer is some seconds ahead is accepted', async () => {
    expect(await callerOf(signed({ ...good, nbf: SECONDS + 5, iat: SECONDS + 5 }))).toMatchObject({
      subject: 'ada',
    });
  });

  it('of a claim that is there twice the last counts, as everywhere', async () => {
    const text = JSON.stringify(good).slice(0, -1);
    await refused(signed(`${text},"exp":1}`));
    await refused(signed(`${text},"aud":"else"}`));
    expect(await callerOf(signed(`${text},"sub":"bob"}`))).toMatchObject({ subject: 'bob' });
  });
});
