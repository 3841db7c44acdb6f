import { createHmac, generateKeyPairSync, type KeyObject, sign as signWith } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { grantsFromClaim } from '../src/domain/authorization.js';
import { KeySet } from '../src/security/key-set.js';
import { tokenVerifier, type VerifyToken } from '../src/security/tokens.js';

/** Tokens made by hand, so that they may say what no library lets them say. */

const NOW = Date.parse('2026-06-01T00:00:00Z');
export const SECONDS = NOW / 1000;
export const SECRET = 'a shared secret of at least 32 characters';
export const ISSUER = 'https://issuer.example';
export const AUDIENCE = 'keyledger';

export const good = { iss: ISSUER, aud: AUDIENCE, sub: 'ada', exp: SECONDS + 60, repos: { shop: 'admin' } };
export const base64url = (text: string | Buffer) => Buffer.from(text).toString('base64url');
/** Header and claims as JSON, or as text that says what no object can. */
const textOf = (part: object | string) => (typeof part === 'string' ? part : JSON.stringify(part));
type Sign = (input: string) => Buffer;
export const jwt = (header: object | string, claims: object | string | Buffer, sign: Sign): string => {
  const payload = Buffer.isBuffer(claims) ? claims : textOf(claims);
  const input = `${base64url(textOf(header))}.${base64url(payload)}`;
  return `${input}.${base64url(sign(input))}`;
};

export const hmac =
  (key: string | Buffer, hash = 'sha256'): Sign =>
  (input) =>
    createHmac(hash, key).update(input).digest();
export const rsa =
  (key: KeyObject): Sign =>
  (input) =>
    signWith('sha256', Buffer.from(input), key);
export const ecdsa =
  (key: KeyObject): Sign =>
  (input) =>
    signWith('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
export const nothing: Sign = () => Buffer.alloc(0);

const rsaPair = (modulusLength = 2048) => generateKeyPairSync('rsa', { modulusLength });
const ecPair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const [ours, evil, weak, elliptic, encryption] = [
  rsaPair(),
  rsaPair(),
  rsaPair(1024),
  ecPair(),
  rsaPair(),
];
export const jwkOf = ({ publicKey }: { publicKey: KeyObject }, more: object) => ({
  ...publicKey.export({ format: 'jwk' }),
  ...more,
});
export const keySet = {
  keys: [
    jwkOf(ours, { kid: 'rsa', alg: 'RS256' }),
    jwkOf(elliptic, { kid: 'ec', alg: 'ES256' }),
    jwkOf(weak, { kid: 'weak', alg: 'RS256' }),
    jwkOf(encryption, { kid: 'enc', use: 'enc' }),
    { kty: 'oct', kid: 'oct', alg: 'HS256', k: base64url(SECRET) },
  ],
};

export const addressOf = (server: Server): string =>
  `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;

/** A server that answers everything with a set of keys, and notes what it is asked. */
export async function serveKeys(set: object): Promise<{ server: Server; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer(({ url }, response) => {
    asked.push(url ?? '');
    response.end(JSON.stringify(set));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { server, asked };
}

/** A key set that is fetched again for an unknown key without the pause that spares an issuer. */
export const quickKeySet = (url: URL, maxAgeSeconds = 86_400): KeySet =>
  new KeySet(url, maxAgeSeconds, pino({ level: 'silent' }), {
    refreshMs: 1000,
    retryMs: 50,
    unknownKeyMs: 20,
    longestUnknownKeyMs: 40,
  });

export const verifierWith = (key: Uint8Array | URL): VerifyToken => {
  const source = key instanceof URL ? quickKeySet(key) : key;
  return tokenVerifier(
    { key: source, issuer: ISSUER, audience: AUDIENCE },
    grantsFromClaim('repos'),
    () => NOW,
  );
};

/** How the service may be set up: what its tokens are checked with, and what signs good ones. */
export const setUps: readonly {
  readonly name: string;
  readonly key: (keys: Server) => Uint8Array | URL;
  readonly header: object;
  readonly sign: Sign;
}[] = [
  {
    name: 'a shared secret',
    key: () => new TextEncoder().encode(SECRET),
    header: { alg: 'HS256' },
    sign: hmac(SECRET),
  },
  {
    name: 'a key set',
    key: (keys) => new URL(addressOf(keys)),
    header: { alg: 'RS256', kid: 'rsa' },
    sign: rsa(ours.privateKey),
  },
];
