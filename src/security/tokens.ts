import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { LRUCache } from 'lru-cache';
import { type Caller, type GrantsOf, isSubject } from '../domain/authorization.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import { KeySet } from './key-set.js';

/** Where bearer tokens come from: a shared secret (bytes), or the address of a key set (RFC 7517). */
export type TokenSource = {
  readonly key: Uint8Array | URL;
  readonly issuer: string;
  readonly audience: string;
};

/**
 * The caller that a bearer token (JWT, RFC 7519) proves; not a promise if the token is remembered.
 * @throws KeyledgerError UNAUTHENTICATED with a TokenRefused as its cause, or UNAVAILABLE if there is no key set
 */
export type VerifyToken = (token: string) => Caller | Promise<Caller>;

const TOKEN_FAULTS = [
  'malformed',
  'algorithm',
  'unknown_key',
  'signature',
  'issuer',
  'audience',
  'expired',
  'not_yet_valid',
  'claims',
] as const;
export type TokenFault = (typeof TOKEN_FAULTS)[number];

/** Why a token is refused; the message quotes nothing of the token. */
export class TokenRefused extends Error {
  readonly fault: TokenFault;

  constructor(fault: TokenFault, message: string) {
    super(message);
    this.name = 'TokenRefused';
    this.fault = fault;
  }
}

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

/** How far the issuer's clock may be ahead: for nbf, not for exp. */
const LEEWAY_SECONDS = 5;
const REMEMBERED_MS = 60_000;
const REMEMBERED_TOKENS = 10_000;

type Remembered = { readonly caller: Caller; readonly until: EpochMs; readonly keySetVersion: number };

/**
 * Remembers a verified token for a minute, so that its signature is checked once; never past its expiry or a change of
 * the key set.
 */
export function tokenVerifier(
  { key, issuer, audience }: Omit<TokenSource, 'key'> & { readonly key: Uint8Array | KeySet },
  grantsOf: GrantsOf,
  clock: () => EpochMs,
): VerifyToken {
  const remembered = new LRUCache<string, Remembered>({ max: REMEMBERED_TOKENS });
  const keySetVersion = () => (key instanceof KeySet ? key.version : 0);
  return (token) => {
    const known = remembered.get(token);
    if (known && clock() < known.until && known.keySetVersion === keySetVersion()) return known.caller;
    remembered.delete(token);
    return prove(token);
  };

  async function prove(token: string): Promise<Caller> {
    const { iss, sub, exp, ...rest } = await checkSignature(token);
    // jose does not check types: 1e999 is a number in JSON, and a subject that is not text makes events unreadable.
    if (!isSubject(iss) || !isSubject(sub) || exp === undefined || !Number.isFinite(exp))
      throw refused(new TokenRefused('claims', 'iss, sub or exp is missing or malformed'));
    const expiresAt = exp * 1000;
    if (expiresAt <= clock()) throw refused(new TokenRefused('expired', 'The token has expired'));
    const caller = { issuer: iss, subject: sub, grants: grantsOf({ iss, sub, exp, ...rest }), expiresAt };
    const until = Math.min(clock() + REMEMBERED_MS, expiresAt);
    remembered.set(token, { caller, until, keySetVersion: keySetVersion() });
    return caller;
  }

  async function checkSignature(token: string): Promise<JWTPayload> {
    const options = {
      issuer,
      audience,
      algorithms: key instanceof KeySet ? KEY_SET_ALGORITHMS : SHARED_SECRET_ALGORITHMS,
      requiredClaims: ['iss', 'sub', 'exp'],
      currentDate: new Date(clock()),
      clockTolerance: LEEWAY_SECONDS,
    };
    try {
      const { payload } =
        key instanceof KeySet ? await jwtVerify(token, key.getKey, options) : await jwtVerify(token, key, options);
      return payload;
    } catch (error) {
      if (error instanceof KeyledgerError) throw error;
      throw refused(new TokenRefused(faultOf(error), (error as Error).message));
    }
  }
}

const refused = (cause: TokenRefused) => new KeyledgerError('UNAUTHENTICATED', { cause });

function faultOf(error: unknown): TokenFault {
  if (error instanceof errors.JWTExpired) return 'expired';
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'signature';
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return 'unknown_key';
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) return 'algorithm';
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim, reason } = error;
    if (claim === 'iss') return 'issuer';
    if (claim === 'aud') return 'audience';
    if (claim === 'nbf' && reason === 'check_failed') return 'not_yet_valid';
    return 'claims';
  }
  return 'malformed';
}

/** @param ttlSeconds lifetime of the token from `now` */
export function mintToken(
  { key, issuer, audience }: TokenSource & { readonly key: Uint8Array },
  { subject, grants, claim, ttlSeconds }: { subject: string; grants: object; claim: string; ttlSeconds: number },
  now: EpochMs,
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
