import { KeyledgerClientError } from './error.js';
import { parseRetryAfter } from './retry.js';
import { expiryPassed } from './token-expiry.js';

/** Error for an answer that is not the expected one. */
export function failure(
  { ok, type, status, headers }: Response,
  answer: Readonly<Record<string, unknown>>,
  idempotencyKey: string | undefined,
  sentToken: string | undefined,
): KeyledgerClientError {
  const field = (name: string) => {
    const value = answer[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const facts = {
    requestId: field('requestId') ?? headers.get('x-request-id'),
    id: field('id'),
    idempotencyKey,
    retryAfterMs: parseRetryAfter(headers.get('retry-after'), Date.now()),
  };
  if (type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    const message = 'The service redirects to another URL; use that one as baseUrl';
    return new KeyledgerClientError(status, 'REDIRECTED', message, facts);
  }
  if (ok) {
    const message = `The answer (${status}) is not Keyledger's; check baseUrl`;
    return new KeyledgerClientError(status, 'BAD_ANSWER', message, facts);
  }
  const reason = field('message') ?? `The service answered ${status} without a reason`;
  const expiredAt = status === 401 && sentToken !== undefined ? expiryPassed(sentToken) : undefined;
  const message = expiredAt === undefined ? reason : `${reason}: the token expired at ${expiredAt}`;
  return new KeyledgerClientError(status, field('code') ?? `HTTP_${status}`, message, facts);
}

export function jsonObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
