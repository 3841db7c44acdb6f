import type { KeyledgerClientError } from './error.js';

const MIN_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 10_000;
/** The service limits rates by the minute, so it never asks for more. */
const MAX_RETRY_AFTER_MS = 60_000;

/** 408 and 425: the service has not accepted the request, and asks for it again (RFC 9110, RFC 8470). */
const RETRYABLE_STATUSES = [408, 425, 429, 502, 503, 504];
const NO_ANSWER = ['NETWORK', 'TIMEOUT'];
/**
 * Whether another attempt may succeed. Not after another 4xx, which is about the request, nor after 500, a fault of the
 * service that the same request would meet again.
 */
export const isRetryable = ({ status, code }: KeyledgerClientError): boolean =>
  RETRYABLE_STATUSES.includes(status) || (status === 0 && NO_ANSWER.includes(code));

/**
 * Milliseconds to wait after a failed attempt: what the service asks for, at most a minute, and a random part (full
 * jitter) of a limit that doubles with every attempt, so that many clients do not return at once.
 * @param attempt number of the attempt that failed, from 1
 * @param random from 0 to 1
 */
export function retryDelay(attempt: number, retryAfterMs: number | null, random: number): number {
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS);
  return Math.min(retryAfterMs ?? 0, MAX_RETRY_AFTER_MS) + random * backoffMs;
}

/**
 * Parses a Retry-After header (RFC 9110, section 10.2.3: seconds or a date) into milliseconds from now; null if it is
 * missing or neither.
 */
export function parseRetryAfter(header: string | null, now: number): number | null {
  const text = header?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = /^[A-Z][a-z]+, .+ GMT$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? null : Math.max(date - now, 0);
}

/**
 * Waits for `ms` milliseconds.
 * @throws the reason of the signal as soon as it aborts
 */
export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
  });
}
