import { KeyledgerError } from './errors.js';

/** SHA-256 (hex) of the Idempotency-Key and of the parsed request that came with it. */
export type Idempotency = { readonly keyHash: string; readonly requestHash: string };

/** What an Idempotency-Key got: which secret of the key, and when (RFC 3339). */
export type IdempotencyRecord = Idempotency & { readonly secretVersion: number; readonly at: string };

/** What decides whether a secret that was given may be given again. */
type ReplayState = {
  readonly id: string;
  readonly status: string;
  readonly secretVersion: number;
  readonly secretReplayable: boolean;
  readonly expiresAt: string | null;
};

/** A repeated request gets the same answer for so long (milliseconds). */
export const IDEMPOTENCY_WINDOW_MS = 15 * 60 * 1000;

/**
 * Checks that a request, repeated with the Idempotency-Key that got a secret, may get it once more: it is
 * the same request, the time is not over, and the secret is still that one, of a key that has not been
 * suspended, expired or deleted since.
 * @param now RFC 3339; the clock may have been set back
 * @throws KeyledgerError IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_USED
 */
export function assertReplayable(
  request: Idempotency,
  record: IdempotencyRecord,
  key: ReplayState,
  now: string,
): void {
  if (request.requestHash !== record.requestHash) throw new KeyledgerError('IDEMPOTENCY_KEY_REUSED');
  const [then, today] = [Date.parse(record.at), Date.parse(now)];
  const expires = key.expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(key.expiresAt);
  const expiredSince = expires > then && expires <= today;
  const repeatable =
    key.status !== 'deleted' &&
    key.secretReplayable &&
    key.secretVersion === record.secretVersion &&
    Math.abs(today - then) <= IDEMPOTENCY_WINDOW_MS &&
    !expiredSince;
  if (!repeatable) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: key.id } });
}
