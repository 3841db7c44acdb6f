import { KeyledgerError } from './errors.js';

/** SHA-256 (hex) of the Idempotency-Key and of the parsed request that came with it. */
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
};

/** How long a repeated request gets the same answer. */
export const IDEMPOTENCY_WINDOW_MS = 15 * 60 * 1000;

/**
 * Checks that a repeated request may get its secret again: it is the same request, within the window, and the
 * secret is still the current one of a key that has not been suspended, expired or deleted since.
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
  const [firstAt, repeatedAt] = [Date.parse(record.at), Date.parse(now)];
  const expires = key.expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(key.expiresAt);
  const expiredSince = expires > firstAt && expires <= repeatedAt;
  const replayable =
    key.status !== 'deleted' &&
    key.secretReplayable &&
    key.secretVersion === record.secretVersion &&
    Math.abs(repeatedAt - firstAt) <= IDEMPOTENCY_WINDOW_MS &&
    !expiredSince;
  if (!replayable) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id: key.id } });
}
