import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify, SignJWT } from 'jose';
import type { Caller, GrantsOf } from '../domain/access.js';
import { KeyledgerError } from '../domain/errors.js';

/** Where bearer tokens come from: a shared secret (bytes) or the address of a key set (RFC 7517). */
export type TokenSource = {
  readonly key: Uint8Array | URL;
  readonly issuer: string;
  readonly audience: string;
};

/**
 * The caller that a bearer token (JWT, RFC 7519) proves; at once if the token is remembered.
 * @throws KeyledgerError UNAUTHENTICATED, or UNAVAILABLE if the key set is out of reach
 */
export type VerifyToken = (token: string) => Caller | Promise<Caller>;

const SHARED_SECRET_ALGORITHMS = ['HS256'];
const KEY_SET_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

const REMEMBERED_MS = 60_000;
const REMEMBERED_TOKENS = 10_000;

/** A verified token is remembered for a minute, never past its expiry, so that its signature is checked once. */
export function tokenVerifier(source: TokenSource, grantsOf: GrantsOf, clock: () => number): VerifyToken {
  const remembered = new Map<string, { caller: Caller; until: number }>();
  const verify = signatureCheck(source, clock);
  return (token) => {
    const known = remembered.get(token);
    if (known && clock() < known.until) return known.caller;
    remembered.delete(token);
    return prove(token);
  };

  async function prove(token: string): Promise<Caller> {
    const payload = await verify(token);
    const { iss, sub, exp } = payload;
    // Their types are not checked by then: 1e999 is a number in JSON, and a subject that is no text makes events unreadable.
    const isProof = iss && typeof sub === 'string' && sub !== '' && Number.isFinite(exp);
    if (!isProof || exp === undefined) throw new KeyledgerError('UNAUTHENTICATED');
    const expiresAt = exp * 1000;
    const caller = { issuer: iss, subject: sub, grants: grantsOf(payload), expiresAt };
    const [oldest] = remembered.keys();
    if (remembered.size >= REMEMBERED_TOKENS && oldest !== undefined) remembered.delete(oldest);
    remembered.set(token, { caller, until: Math.min(clock() + REMEMBERED_MS, expiresAt) });
    return caller;
  }
}

function signatureCheck({ key, issuer, audience }: TokenSource, clock: () => number) {
  const keys = key instanceof URL ? createRemoteJWKSet(key) : undefined;
  const getKey: JWTVerifyGetKey = async (...args) => keys?.(...args).catch(outOfReach) ?? (key as Uint8Array);
  const algorithms = keys ? KEY_SET_ALGORITHMS : SHARED_SECRET_ALGORITHMS;
  return async (token: string): Promise<JWTPayload> => {
    try {
      const requiredClaims = ['iss', 'sub', 'exp'];
      const currentDate = new Date(clock());
      const options = { issuer, audience, algorithms, requiredClaims, currentDate };
      return (await jwtVerify(token, getKey, options)).payload;
    } catch (cause) {
      throw cause instanceof KeyledgerError ? cause : new KeyledgerError('UNAUTHENTICATED', { cause });
    }
  };
}

const TOKEN_FAULTS = [errors.JWKSNoMatchingKey, errors.JWKSMultipleMatchingKeys, errors.JOSENotSupported];

/** A key that the set does not have is the token's fault; anything else is the network's. */
function outOfReach(cause: unknown): never {
  if (TOKEN_FAULTS.some((fault) => cause instanceof fault)) throw cause;
  throw new KeyledgerError('UNAVAILABLE', { cause });
}

/** @param ttlSeconds how long the token is good for, from now on */
export function mintToken(
  { key, issuer, audience }: TokenSource & { readonly key: Uint8Array },
  {
    subject,
    grants,
    claim,
    ttlSeconds,
  }: { subject: string; grants: object; claim: string; ttlSeconds: number },
  now: number,
): Promise<string> {
  const seconds = Math.floor(now / 1000);
  return new SignJWT({ [claim]: grants })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject(subject)
    .setIssuedAt(seconds)
    .setExpirationTime(seconds + ttlSeconds)
    .sign(key);
}
