import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { grantsFromClaim } from '../src/domain/authorization.js';
import { KeySet } from '../src/security/key-set.js';
import { tokenVerifier } from '../src/security/tokens.js';
import { eventually } from './support/assertions/eventually.js';
import { AUDIENCE, addressOf, ecdsa, good, ISSUER, jwkOf, jwt, quickKeySet, SECONDS } from './support/fixtures/jwt.js';

/** Tokens while the issuer of their key set fails, or changes its keys. */

const pair = (kid: string) => {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  let serial = 0;
  return {
    jwk: jwkOf(keys, { kid, alg: 'ES256' }),
    /** A new token each time, so that no cache holds it. */
    token: () => jwt({ alg: 'ES256', kid }, { ...good, jti: ++serial }, ecdsa(keys.privateKey)),
  };
};
const [first, second] = [pair('first'), pair('second')];

type Answers = { keys: object[]; mode: 'answers' | 'fails' | 'hangs' | 'is broken' };
let issuer: Server;
let answers: Answers;
let fetched = 0;
let keySet: KeySet;
beforeEach(async () => {
  answers = { keys: [first.jwk], mode: 'answers' };
  fetched = 0;
  issuer = createServer((_, response) => {
    fetched++;
    if (answers.mode === 'hangs') return;
    if (answers.mode === 'is broken') response.end('<html>');
    else response.writeHead(answers.mode === 'fails' ? 500 : 200).end(JSON.stringify({ keys: answers.keys }));
  });
  await once(issuer.listen(0, '127.0.0.1'), 'listening');
});
afterEach(() => {
  keySet?.stop();
  issuer.closeAllConnections();
  issuer.close();
});

const verifier = (maxAgeSeconds?: number) => {
  keySet = quickKeySet(new URL(addressOf(issuer)), maxAgeSeconds);
  const source = { key: keySet, issuer: ISSUER, audience: AUDIENCE };
  const verify = tokenVerifier(source, grantsFromClaim('repos'), () => SECONDS * 1000);
  return async (token: string) => verify(token);
};
const accepted = { subject: good.sub };
const refused = { code: 'UNAUTHENTICATED' };
const unavailable = { code: 'UNAVAILABLE' };

describe('a key set whose issuer', () => {
  it.each(['fails', 'hangs', 'is broken'] as const)('%s stays in use', async (mode) => {
    const verify = verifier();
    expect(await verify(first.token())).toMatchObject(accepted);
    answers.mode = mode;
    keySet.start();
    await eventually(() => fetched > 1);
    const began = performance.now();
    for (let n = 0; n < 20; n++) expect(await verify(first.token())).toMatchObject(accepted);
    // At once: no token waits for the issuer.
    expect(performance.now() - began).toBeLessThan(4000);
  });

  it('fails is used up to its maximum age, and again when the issuer is back', async () => {
    const verify = verifier(0.3);
    expect(await verify(first.token())).toMatchObject(accepted);
    answers.mode = 'fails';
    await eventually(() => keySet.ageSeconds > 0.3);
    await expect(verify(first.token())).rejects.toMatchObject(unavailable);
    answers.mode = 'answers';
    await eventually(() => verify(first.token()).then(Boolean, () => false));
  });

  it('never answered makes tokens unavailable, not refused, until it does', async () => {
    answers.mode = 'fails';
    const verify = verifier();
    expect(keySet.ageSeconds).toBe(Number.POSITIVE_INFINITY);
    await expect(verify(first.token())).rejects.toMatchObject(unavailable);
    answers.mode = 'answers';
    await eventually(() => verify(first.token()).then(Boolean, () => false));
  });

  it('hangs from the start makes no token wait for more than one fetch', async () => {
    answers.mode = 'hangs';
    const verify = verifier();
    keySet.start();
    const began = performance.now();
    await Promise.all(
      Array.from({ length: 20 }, () => expect(verify(first.token())).rejects.toMatchObject(unavailable)),
    );
    // A fetch times out after five seconds.
    expect(performance.now() - began).toBeLessThan(8000);
    answers.mode = 'answers';
    await eventually(() => keySet.ageSeconds < 60);
    expect(await verify(first.token())).toMatchObject(accepted);
  });

  it('hears ever less of keys that nobody has', async () => {
    const set = new KeySet(new URL(addressOf(issuer)), 86_400, pino({ level: 'silent' }), {
      refreshMs: 100_000,
      retryMs: 50,
      unknownKeyMs: 10,
      longestUnknownKeyMs: 100_000,
    });
    const source = { key: set, issuer: ISSUER, audience: AUDIENCE };
    const verify = tokenVerifier(source, grantsFromClaim('repos'), () => SECONDS * 1000);
    const outcomes = new Set<string>();
    while (!outcomes.has('UNAVAILABLE'))
      await Promise.resolve(verify(second.token())).catch(({ code }) => outcomes.add(code));
    // Pauses are 10 ms, 20 ms and so on: the next one exceeds what a token waits.
    expect(outcomes).toEqual(new Set(['UNAUTHENTICATED', 'UNAVAILABLE']));
    expect(fetched).toBeLessThan(15);
    expect(await verify(first.token())).toMatchObject(accepted);
  });

  it('signs with a new key has its tokens accepted at once', async () => {
    const verify = verifier();
    await verify(first.token());
    answers.keys = [first.jwk, second.jwk];
    expect(await verify(second.token())).toMatchObject(accepted);
  });

  it('fails while a token names an unknown key makes that token UNAVAILABLE, and keeps others valid', async () => {
    const verify = verifier();
    await verify(first.token());
    answers.mode = 'fails';
    await expect(verify(second.token())).rejects.toMatchObject(unavailable);
    expect(await verify(first.token())).toMatchObject(accepted);
  });

  it('withdraws a key: its tokens are refused, remembered ones too', async () => {
    const verify = verifier();
    const token = first.token();
    await verify(token);
    expect(await verify(token)).toMatchObject(accepted);
    answers.keys = [second.jwk];
    keySet.start();
    await eventually(async () => keySet.version > 1);
    for (const withdrawn of [token, first.token()]) await expect(verify(withdrawn)).rejects.toMatchObject(refused);
    expect(await verify(second.token())).toMatchObject(accepted);
  });

  it('answers one request for many tokens that name unknown keys at the same time', async () => {
    const verify = verifier();
    await verify(first.token());
    await Promise.all(Array.from({ length: 100 }, () => expect(verify(second.token())).rejects.toMatchObject(refused)));
    expect(fetched).toBe(2);
  });

  it('is refreshed in the background, and reports its age', async () => {
    verifier();
    keySet.start();
    await eventually(() => fetched >= 2);
    expect(keySet.ageSeconds).toBeLessThan(60);
  });
});
