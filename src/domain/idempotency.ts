import { KeyledgerError } from './errors.js';

/**
 * SHA-256 (hex) of the Idempotency-Key, for a rotation together with the caller, and of the parsed request that came
 * with it.
 */
export type Idempotency = { readonly keyHash: string; readonly requestHash: string };

/** Which secret an Idempotency-Key returned, and when (RFC 3339). */
export type IdempotencyRecord = Idempotency & { readonly secretVersion: number; readonly at: string };

/** State that decides whether a secret may be returned again. */
type ReplayState = {
  readonly id: string;
  readonly status: string;
  readonly secretVersion: number;
  readonly secretReplayable: boolean;
  readonly expiresAt: string | null;
  readonly idempotencyRecords: readonly IdempotencyRecord[];
};

/** How long a repeated request gets the same answer. */
export const IDEMPOTENCY_WINDOW_MS = 15 * 60 * 1000;

/**
 * Whether a request repeats one that returned a secret, and gets that secret again: it is the same request, within the
 * window, and the secret is still the current one of a key that has not been suspended, expired or deleted since.
 * @param now RFC 3339; the clock may have been set back
 * @returns false: the Idempotency-Key is new here
 * @throws KeyledgerError IDEMPOTENCY_KEY_REUSED for another request, IDEMPOTENCY_KEY_USED if the secret is not returned
 */
export function isReplay(request: Idempotency | undefined, key: ReplayState, now: string): boolean {
  const record = request && key.idempotencyRecords.find(({ keyHash }) => keyHash === request.keyHash);
  if (!record) return false;
  if (request.requestHash !== record.requestHash) throw new KeyledgerError('IDEMPOTENCY_KEY_REUSED');
  const [firstAt, repeatedAt] = [Date.parse(record.at), Date.parse(now)];
  const expires = key.expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(key.expiresAt);
  const expiredSince = expires > firstAt && expires <= repeatedAt;
  const isCurrent = key.secretReplayable && key.secretVersion === record.secretVersion;
  const isInWindow = Math.abs(repeatedAt - firstAt) <= IDEMPOTENCY_WINDOW_MS;
  if (key.status === 'deleted' || !isCurrent || !isInWindow || expiredSince) {
    throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: key.id } });
  }
  return true;
}

/** End of the overlap of a rotation (RFC 3339); null without one. */
export const overlapEnd = (now: string, overlapSeconds: number): string | null =>
  overlapSeconds > 0 ? new Date(Date.parse(now) + overlapSeconds * 1000).toISOString() : null;
