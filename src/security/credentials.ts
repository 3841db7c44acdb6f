import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * Credentials: a prefix, random base62, and a checksum, so that a scanner or a verifier recognises a mistyped or invented one without a look-up (as GitHub's tokens do,
 * https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/).
 *
 * | credential | prefix | random | checksum |
 * |---|---|---|---|
 * | access key | FB_AI_ | 22 digits, 130.9 bits | 6 digits, CRC-32 |
 * | secret | secret_ | 43 digits, 256.0 bits | 6 digits, CRC-32 |
 */
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const ACCESS_KEY = { prefix: 'FB_AI_', digits: 22 };
const SECRET = { prefix: 'secret_', digits: 43 };
const CHECKSUM_DIGITS = 6;

export const makeAccessKey = (): string => make(ACCESS_KEY);
export const makeSecret = (): string => make(SECRET);

/** Checks the form and checksum of an access key, without a look-up. */
export const isAccessKey = (text: string): boolean => isWellFormed(text, ACCESS_KEY);
/** Checks the form and checksum of a secret, without a look-up. */
export const isSecret = (text: string): boolean => isWellFormed(text, SECRET);

/** A secret that signs webhooks: 256 random bits, in the format of https://www.standardwebhooks.com. */
export const makeSigningSecret = (): string => `whsec_${randomBytes(32).toString('base64')}`;

/** SHA-256 in hex. 256 random bits need no slow hash. */
export const hashOf = (text: string): string => hash('sha256', text, 'hex');

/** True if the secret has one of these hashes (64 hex digits each); compares each in constant time. */
export function hasHash(secret: string, secretHashes: readonly string[]): boolean {
  const actual = Buffer.from(hashOf(secret));
  return secretHashes.some((secretHash) => {
    const expected = Buffer.from(secretHash);
    return actual.length === expected.length && timingSafeEqual(actual, expected);
  });
}

type Shape = { readonly prefix: string; readonly digits: number };

function make({ prefix, digits }: Shape): string {
  const random = prefix + randomBase62(digits);
  return random + checksum(random);
}

function isWellFormed(text: string, { prefix, digits }: Shape): boolean {
  if (text.length !== prefix.length + digits + CHECKSUM_DIGITS || !text.startsWith(prefix)) return false;
  return checksum(text.slice(0, -CHECKSUM_DIGITS)) === text.slice(-CHECKSUM_DIGITS);
}

/** Uniform digits: discards bytes that would favour the low ones. */
function randomBase62(digits: number): string {
  let text = '';
  while (text.length < digits) {
    for (const byte of randomBytes(digits - text.length + 4)) {
      if (byte < 248 && text.length < digits) text += BASE62[byte % 62];
    }
  }
  return text;
}

/** CRC-32 as base62: 62^6 is more than 2^32. */
function checksum(text: string): string {
  let rest = crc32(text);
  let digits = '';
  for (let i = 0; i < CHECKSUM_DIGITS; i++) {
    digits = BASE62[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}
