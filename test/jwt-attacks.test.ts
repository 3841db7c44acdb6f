import { createPublicKey } from 'node:crypto';
import type { Server } from 'node:http';
import { deflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { EncryptJWT } from 'jose';
import {
  AUDIENCE,
  addressOf,
  base64url,
  ecdsa,
  elliptic,
  encryption,
  evil,
  good,
  hmac,
  ISSUER,
  jwkOf,
  jwt,
  keySet,
  nothing,
  ours,
  rsa,
  SECRET,
  serveKeys,
  tokenConfigurations,
  verifierWith,
  weak,
} from './support/fixtures/jwt.js';

let keys: Server;
beforeAll(async () => {
  keys = (await serveKeys(keySet)).server;
});
afterAll(() => void keys.close());

describe.each(tokenConfigurations)('where tokens are checked with $name', ({ key, header, sign }) => {
  const callerOf = async (token: string) => verifierWith(key(keys))(token);
  const refused = (token: string) => expect(callerOf(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  const signed = (claims: object | string | Buffer, more: object = {}) => jwt({ ...header, ...more }, claims, sign);

  it('a valid token is accepted', async () => {
    expect(await callerOf(signed(good))).toMatchObject({ subject: 'ada', grants: { shop: 'admin' } });
    expect(await callerOf(signed({ ...good, aud: ['else', AUDIENCE] }))).toMatchObject({ subject: 'ada' });
  });

  it.each(['none', 'None', 'NONE', 'nOnE', 'none ', '', 'hs256', 'HS1', 'RSA1_5', null, 0, ['HS256'], {}])(
    'the algorithm %j is refused, whatever the signature',
    async (alg) => {
      for (const signature of [nothing, sign, hmac('')]) {
        await refused(jwt({ ...header, alg }, good, signature));
      }
    },
  );

  it.each([
    ['no algorithm', '{}'],
    ['another algorithm behind the good one', '{"alg":"HS256","alg":"RS256","alg":"none"}'],
    ['no object', '[]'],
    ['null', 'null'],
    ['no JSON', '{alg:HS256}'],
    ['a polluted prototype', '{"__proto__":{"alg":"HS256"}}'],
  ])('a header with %s is refused', async (_, text) => {
    for (const signature of [nothing, sign]) await refused(jwt(text, good, signature));
  });

  it('an HMAC with anything that is public, or with nothing, is no signature', async () => {
    const publicKey = createPublicKey(ours.publicKey.export({ type: 'spki', format: 'pem' }));
    const publicThings = [
      publicKey.export({ type: 'spki', format: 'pem' }),
      publicKey.export({ type: 'spki', format: 'pem' }).toString().trim(),
      publicKey.export({ type: 'spki', format: 'der' }),
      publicKey.export({ type: 'pkcs1', format: 'pem' }),
      JSON.stringify(keySet),
      JSON.stringify(keySet.keys[0]),
      Buffer.from(String(publicKey.export({ format: 'jwk' }).n), 'base64url'),
      '',
      'secret',
      '\0',
      ISSUER,
    ];
    for (const thing of publicThings) {
      for (const [alg, hash] of [['HS256'], ['HS384', 'sha384'], ['HS512', 'sha512']] as const) {
        for (const kid of ['rsa', 'oct', undefined]) {
          await refused(jwt({ alg, kid }, good, hmac(thing, hash)));
        }
      }
    }
  });

  it('a key that the token brings along, or an address of one, is ignored', async () => {
    const jwk = jwkOf(evil, { kid: 'rsa', alg: 'RS256' });
    const trap = await serveKeys({ keys: [jwk] });
    trap.server.unref();
    const url = addressOf(trap.server);
    const x5c = [evil.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')];
    for (const brought of [{ jwk }, { jku: url }, { x5u: url }, { x5c }, { iss: url }, { kid: url, jku: url, jwk }]) {
      await refused(jwt({ alg: 'RS256', kid: 'rsa', ...brought }, good, rsa(evil.privateKey)));
    }
    await refused(jwt({ alg: 'RS256', jku: url }, { ...good, iss: url }, rsa(evil.privateKey)));
    expect(trap.asked).toEqual([]);
  });

  it.each([
    '../../../../../../dev/null',
    '/proc/sys/kernel/randomize_va_space',
    "x' UNION SELECT 'a';--",
    '`id`|id',
    '__proto__',
    'constructor',
    'rsa\0',
    'RSA',
    '',
    'k'.repeat(8000),
    { kid: 'rsa' },
    ['rsa'],
  ])('the key id %j leads to no other key', async (kid) => {
    for (const [alg, signature] of [
      ['HS256', hmac('')],
      ['HS256', hmac('a')],
      ['HS256', hmac('0')],
      ['RS256', rsa(evil.privateKey)],
    ] as const) {
      await refused(jwt({ alg, kid }, good, signature));
    }
  });

  it.each([
    ['an extension that nobody knows', { crit: ['exp2'], exp2: 1 }],
    ['a payload that is not encoded', { crit: ['b64'], b64: false }],
    ['an empty list', { crit: [] }],
    ['no list', { crit: 'b64' }],
    ['something that is not there', { crit: ['x'] }],
  ])('%s in crit is refused', async (_, more) => refused(signed(good, more)));

  it('a payload that is not encoded, deflated, a token itself or no object is refused', async () => {
    const header64 = base64url(JSON.stringify({ ...header, b64: false, crit: ['b64'] }));
    await refused(`${header64}.${JSON.stringify(good)}.${base64url(sign(`${header64}.${JSON.stringify(good)}`))}`);
    await refused(signed(deflateRawSync(JSON.stringify(good)), { zip: 'DEF' }));
    await refused(signed(signed(good), { cty: 'JWT' }));
    for (const text of ['', 'null', '[]', '"ada"', '7', JSON.stringify([good]), `${JSON.stringify(good)}x`]) {
      await refused(signed(text));
    }
    await refused(signed(Buffer.concat([Buffer.from(JSON.stringify(good)), Buffer.from([0xff])])));
  });

  it('an encrypted token is refused, also one for our own key', async () => {
    const cek = Buffer.from(SECRET).subarray(0, 32);
    const inside = new EncryptJWT(good as object as Record<string, unknown>);
    await refused(await inside.setProtectedHeader({ alg: 'dir', enc: 'A256GCM' }).encrypt(cek));
  });

  it('a signature that is none, of another token, cut or longer is refused', async () => {
    const token = signed(good);
    const [head, payload, signature = ''] = token.split('.');
    const [, root] = signed({ ...good, sub: 'root' }).split('.');
    const [, , other] = signed({ ...good, sub: 'bob' }).split('.');
    for (const forged of [
      `${head}.${payload}.`,
      `${head}.${payload}`,
      `${head}.${payload}.${other}`,
      `${head}.${root}.${signature}`,
      `${head}.${payload}.${signature.slice(0, -2)}`,
      `${head}.${payload}.${signature}AA`,
      `${head}.${payload}.${signature}.`,
      `${head}.${payload}.${signature}.${signature}`,
      `.${payload}.${signature}`,
      `${head}..${signature}`,
      `${head} .${payload}.${signature}`,
      `${head}.${payload}\n.${signature}`,
      `${token}\0`,
      '..',
      '.'.repeat(100_000),
      'a'.repeat(100_000),
    ]) {
      await refused(forged);
    }
  });
});

describe('a shared secret', () => {
  it('is for its own algorithm only', async () => {
    // Long enough for each of these algorithms.
    const secret = SECRET.repeat(2);
    const verify = async (token: string) => verifierWith(new TextEncoder().encode(secret))(token);
    expect(await verify(jwt({ alg: 'HS256' }, good, hmac(secret)))).toMatchObject({ subject: 'ada' });
    for (const [alg, hash] of [
      ['HS384', 'sha384'],
      ['HS512', 'sha512'],
    ] as const) {
      const token = jwt({ alg }, good, hmac(secret, hash));
      await expect(verify(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    }
  });
});

describe('a key set', () => {
  const verify = async (token: string) => verifierWith(new URL(addressOf(keys)))(token);
  const refused = (token: string) => expect(verify(token)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });

  it('takes no signature of zeros, nor of the order of the curve (psychic signatures)', async () => {
    const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');
    const header = { alg: 'ES256', kid: 'ec' };
    expect(await verify(jwt(header, good, ecdsa(elliptic.privateKey)))).toMatchObject({ subject: 'ada' });
    for (const signature of [
      Buffer.alloc(64),
      Buffer.concat([order, order]),
      Buffer.concat([Buffer.alloc(32), order]),
      Buffer.from('3006020100020100', 'hex'),
      nothing(''),
    ]) {
      await refused(jwt(header, good, () => signature));
    }
  });

  it('takes each key for its own algorithm and purpose only, and none that is weak', async () => {
    for (const [header, sign] of [
      [{ alg: 'RS256', kid: 'rsa' }, rsa(evil.privateKey)],
      [{ alg: 'RS256', kid: 'ec' }, rsa(ours.privateKey)],
      [{ alg: 'ES256', kid: 'rsa' }, ecdsa(elliptic.privateKey)],
      [{ alg: 'RS512', kid: 'rsa' }, rsa(ours.privateKey)],
      [{ alg: 'PS256', kid: 'rsa' }, rsa(ours.privateKey)],
      [{ alg: 'RS256', kid: 'enc' }, rsa(encryption.privateKey)],
      [{ alg: 'RS256', kid: 'weak' }, rsa(weak.privateKey)],
      [{ alg: 'HS256', kid: 'oct' }, hmac(SECRET)],
      [{ alg: 'HS256' }, hmac(SECRET)],
    ] as const) {
      await refused(jwt(header, good, sign));
    }
  });
});
