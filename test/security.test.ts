import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { exportJWK, generateKeyPair, type JWTHeaderParameters, SignJWT, UnsecuredJWT } from 'jose';
import { grantsFromClaim } from '../src/domain/authorization.js';
import { hasHash, hashOf, isAccessKey, isSecret, makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { mintToken, tokenVerifier } from '../src/security/tokens.js';
import { quickKeySet } from './support/fixtures/jwt.js';

describe('credentials', () => {
  it('are well-formed, and no two alike', () => {
    const made = Array.from({ length: 2000 }, () => [makeAccessKey(), makeSecret()] as const);
    for (const [key, secret] of made) {
      expect(key).toMatch(/^FB_AI_[0-9A-Za-z]{28}$/);
      expect(secret).toMatch(/^secret_[0-9A-Za-z]{49}$/);
      expect([isAccessKey(key), isSecret(secret)]).toEqual([true, true]);
    }
    expect(new Set(made.flat()).size).toBe(4000);
  });

  it('use every digit about equally often', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 2000; i++) {
      for (const digit of makeSecret().slice(7, -6)) counts.set(digit, (counts.get(digit) ?? 0) + 1);
    }
    const expected = (2000 * 43) / 62;
    expect(counts.size).toBe(62);
    for (const count of counts.values()) expect(Math.abs(count - expected)).toBeLessThan(expected / 4);
  });

  it('with one character changed, or of another kind, are recognised as none without a look-up', () => {
    const secret = makeSecret();
    fc.assert(
      fc.property(fc.nat(secret.length - 1), fc.constantFrom(...'0aZ_ é'), (at, character) => {
        fc.pre(secret[at] !== character);
        expect(isSecret(secret.slice(0, at) + character + secret.slice(at + 1))).toBe(false);
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => !isSecret(text) && !isAccessKey(text)));
    expect([isAccessKey(secret), isSecret(makeAccessKey()), isSecret(secret.slice(1))]).toEqual([false, false, false]);
  });

  it('match their own hash only', () => {
    const secret = makeSecret();
    expect(hasHash(secret, [hashOf(secret)])).toBe(true);
    expect([hasHash(makeSecret(), [hashOf(secret)]), hasHash(secret, ['', 'x']), hasHash(secret, [])]).toEqual([
      false,
      false,
      false,
    ]);
  });
});

describe('the keyring', () => {
  const [one, two] = [makeMasterKey('one'), makeMasterKey('two')];
  const apiKeyId = '0b7f3c1e-6f0a-4c57-9d3a-2f1f8f3d9a10';
  const sealContext = { apiKeyId, secretVersion: 1 };
  const secret = makeSecret();
  const sealed = new Keyring(one).seal(secret, sealContext);

  it('opens what it sealed, and never seals twice alike', () => {
    expect(new Keyring(one).open(sealed, sealContext, hashOf(secret))).toBe(secret);
    expect(new Keyring(one).seal(secret, sealContext)).not.toBe(sealed);
    expect(sealed).not.toContain(secret);
  });

  it('seals under the newest key and opens under all', () => {
    const both = new Keyring(`${two},${one}`);
    expect(both.seal(secret, sealContext)).toMatch(/^v1\.two\./);
    expect(both.open(sealed, sealContext, hashOf(secret))).toBe(secret);
  });

  it('opens nothing of a key that was taken out', () => {
    expect(new Keyring(two).open(sealed, sealContext, hashOf(secret))).toBeUndefined();
  });

  it('opens nothing for another key id, another version, another KEK id or another hash', () => {
    const keyring = new Keyring(`${one},${one.replace('one', 'uno')}`);
    const open = (text: string, change = {}, hash = hashOf(secret)) =>
      keyring.open(text, { ...sealContext, ...change }, hash);
    expect(open(sealed)).toBe(secret);
    expect(open(sealed, { apiKeyId: apiKeyId.replace('0', '1') })).toBeUndefined();
    expect(open(sealed, { secretVersion: 2 })).toBeUndefined();
    expect(open(sealed.replace('.one.', '.uno.'))).toBeUndefined();
    expect(open(sealed, {}, hashOf('another'))).toBeUndefined();
  });

  it('opens nothing that was changed, and throws at nothing', () => {
    fc.assert(
      fc.property(fc.nat(sealed.length - 1), fc.constantFrom(...'Aa0_.-'), (at, character) => {
        const changed = sealed.slice(0, at) + character + sealed.slice(at + 1);
        fc.pre(
          Buffer.from(changed.split('.').join(''), 'base64url').compare(
            Buffer.from(sealed.split('.').join(''), 'base64url'),
          ) !== 0 && changed !== sealed,
        );
        const opened = new Keyring(one).open(changed, sealContext, hashOf(secret));
        expect([undefined, secret]).toContain(opened);
        if (at < sealed.lastIndexOf('.')) expect(opened).toBeUndefined();
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => new Keyring(one).open(text, sealContext, hashOf(secret)) === undefined),
    );
  });

  it.each([
    ['', /no master key/],
    ['abc', /must be id:base64/],
    ['a:AAAA', /3 bytes instead of 32/],
    [`${one},${one}`, /twice/],
    [`sp ce${one}`, /must be id:base64/],
  ])('refuses %j and does not repeat it', (text, message) => {
    expect(() => new Keyring(text)).toThrow(message);
    expect(() => new Keyring(text)).not.toThrow(/AAAA/);
  });
});

describe('a bearer token', () => {
  const key = new TextEncoder().encode('a shared secret of at least 32 characters');
  const source = { key, issuer: 'https://issuer.example', audience: 'keyledger' };
  let now = Date.parse('2026-06-01T00:00:00Z');
  const clock = () => now;
  const verify = tokenVerifier(source, grantsFromClaim('repos'), clock);
  const seconds = () => Math.floor(now / 1000);
  const claims = (change = {}) => ({
    iss: source.issuer,
    aud: source.audience,
    sub: 'ada',
    exp: seconds() + 60,
    repos: { shop: 'admin' },
    ...change,
  });
  const sign = (
    change = {},
    header: JWTHeaderParameters = { alg: 'HS256' },
    by: Parameters<SignJWT['sign']>[0] = key,
  ) => new SignJWT(claims(change)).setProtectedHeader(header).sign(by);
  const refused = (token: string) => expect(verify(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });

  it('proves who calls and what they may', async () => {
    expect(await verify(await sign())).toEqual({
      issuer: source.issuer,
      subject: 'ada',
      grants: { shop: 'admin' },
      expiresAt: now + 60_000,
    });
    const minted = await mintToken(
      source,
      { subject: 'bob', grants: { '*': 'viewer' }, claim: 'repos', ttlSeconds: 5 },
      now,
    );
    expect(await verify(minted)).toMatchObject({ subject: 'bob', grants: { '*': 'viewer' } });
  });

  it.each([
    ['no issuer', { iss: undefined }],
    ['another issuer', { iss: 'https://evil.example' }],
    ['another audience', { aud: 'else' }],
    ['no audience', { aud: undefined }],
    ['no subject', { sub: undefined }],
    ['an empty subject', { sub: '' }],
    ['no expiry', { exp: undefined }],
  ])('with %s is refused', async (_, change) => refused(await sign(change)));

  it('that has expired, or is not valid yet, is refused', async () => {
    await refused(await sign({ exp: seconds() }));
    await refused(await sign({ exp: seconds() - 3600 }));
    await refused(await sign({ nbf: seconds() + 60 }));
  });

  it('without a signature (alg: none) is refused', async () => {
    await refused(new UnsecuredJWT(claims()).encode());
    const [, payload] = (await sign()).split('.');
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    await refused(`${none}.${payload}.`);
    await refused(`${none}.${payload}.${(await sign()).split('.')[2]}`);
  });

  it('of another algorithm, another key, or changed after signing is refused', async () => {
    const { privateKey } = await generateKeyPair('RS256');
    await refused(await sign({}, { alg: 'RS256' }, privateKey));
    await refused(await sign({}, { alg: 'HS512' }));
    await refused(
      await sign({}, { alg: 'HS256' }, new TextEncoder().encode('another secret of at least 32 characters')),
    );
    const [header, , signature] = (await sign()).split('.');
    const admin = Buffer.from(JSON.stringify(claims({ sub: 'root' }))).toString('base64url');
    await refused(`${header}.${admin}.${signature}`);
    for (const text of ['', 'x', 'a.b.c', `${await sign()}x`]) await refused(text);
  });

  it('is remembered, but never past its expiry', async () => {
    const token = await sign({ exp: seconds() + 10 });
    await verify(token);
    now += 9_000;
    expect((await verify(token)).subject).toBe('ada');
    now += 1_000;
    await refused(token);
  });

  it('grants nothing if its claim is of another shape', async () => {
    for (const repos of [undefined, null, 'admin', ['admin'], 7]) {
      expect((await verify(await sign({ repos }))).grants).toEqual({});
    }
  });

  describe('of a key set', () => {
    let server: Server;
    let keys: object[] = [];
    let status = 200;
    beforeAll(async () => {
      server = createServer((_, response) =>
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys })),
      );
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    });
    afterAll(() => void server.close());
    const keySet = () => new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`);
    const verifyBySet = () => tokenVerifier({ ...source, key: quickKeySet(keySet()) }, grantsFromClaim('repos'), clock);

    it('is checked against it; a shared-secret signature with its public key is refused', async () => {
      const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
      const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' };
      keys = [jwk];
      const check = verifyBySet();
      expect((await check(await sign({}, { alg: 'ES256', kid: 'k' }, privateKey))).subject).toBe('ada');
      const swapped = await sign({}, { alg: 'HS256', kid: 'k' }, new TextEncoder().encode(JSON.stringify(jwk)));
      await expect(check(swapped)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      const other = await generateKeyPair('ES256');
      await expect(check(await sign({}, { alg: 'ES256', kid: 'k' }, other.privateKey))).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
      });
      await expect(check(await sign({}, { alg: 'ES256', kid: 'unknown' }, privateKey))).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
      });
    });

    it('is UNAVAILABLE, not refused, while the set is unavailable', async () => {
      const { privateKey } = await generateKeyPair('ES256');
      const token = await sign({}, { alg: 'ES256', kid: 'k' }, privateKey);
      status = 500;
      await expect(verifyBySet()(token)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      status = 200;
      const nowhere = tokenVerifier(
        { ...source, key: quickKeySet(new URL('http://127.0.0.1:1/jwks')) },
        grantsFromClaim('repos'),
        clock,
      );
      await expect(nowhere(token)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    });
  });
});
