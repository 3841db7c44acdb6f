import { setTimeout as pause } from 'node:timers/promises';
import {
  AccessDeniedError,
  MaxAppendSizeExceededError,
  NotLeaderError,
  StreamDeletedError,
} from '@eventstore/db-client';
import { backOffMs } from '../../back-off.js';
import { KeyledgerError } from '../../domain/errors.js';

/** Limit of a call with all its attempts: the caller has a result or a failure by then. */
export const CALL_TIMEOUT_MS = 4500;
/** An append without a response after this time is sent again. */
const ATTEMPT_TIMEOUT_MS = 1500;
/** With less time left than this, another attempt would hardly succeed. */
const MIN_ATTEMPT_MS = 250;
const MIN_BACKOFF_MS = 25;
const MAX_BACKOFF_MS = 400;

/**
 * Kinds of failure: `refused` (not done, a retry may succeed), `unknown` (perhaps done, a retry finds out) or `final`
 * (not done, and no retry can succeed).
 */
export type FailureKind = 'refused' | 'unknown' | 'final';

/** gRPC status codes, https://grpc.io/docs/guides/status-codes */
const INVALID_ARGUMENT = 3;
const PERMISSION_DENIED = 7;
const UNIMPLEMENTED = 12;

const NEVER_SENT =
  /No connection established|Name resolution failed|Failed to discover|Server Is Not Ready|Server Is Too Busy/i;

export function classifyError(error: unknown): FailureKind {
  if (
    error instanceof AccessDeniedError ||
    error instanceof MaxAppendSizeExceededError ||
    error instanceof StreamDeletedError
  ) {
    return 'final';
  }
  const { code, message = '' } = error as { code?: number; message?: string };
  if (code === INVALID_ARGUMENT || code === PERMISSION_DENIED || code === UNIMPLEMENTED) return 'final';
  if (error instanceof NotLeaderError || NEVER_SENT.test(message)) return 'refused';
  return 'unknown';
}

/** The message of an error; some of the client's errors have only a type. */
export function errorReason(error: unknown): string {
  const { message, type } = error as { message?: string; type?: string };
  return message || type || String(error);
}

export class TimeoutError extends Error {
  constructor(timeoutMs: number) {
    super(`EventStoreDB did not answer within ${Math.round(timeoutMs)} ms`);
    this.name = 'TimeoutError';
  }
}

/** The client's own deadline does not work when the server is frozen. @throws TimeoutError */
export async function withTimeout<T>(timeoutMs: number, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(timeoutMs)), timeoutMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Retries an append until its outcome is known or its time is up.
 * @param attempt must be idempotent: the same ids and the same expected revision each time
 * @throws KeyledgerError UNAVAILABLE if it was not done, OUTCOME_UNKNOWN if it may have been
 */
export async function retryUntilOutcomeKnown<T>(attempt: (timeoutMs: number) => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + CALL_TIMEOUT_MS;
  let mayBeDone = false;
  for (let failures = 0; ; failures++) {
    const delay = backOffMs(failures, MIN_BACKOFF_MS, MAX_BACKOFF_MS);
    const timeoutMs = Math.min(giveUpAt - performance.now(), ATTEMPT_TIMEOUT_MS);
    try {
      return await withTimeout(timeoutMs, attempt(timeoutMs));
    } catch (cause) {
      const kind = classifyError(cause);
      mayBeDone ||= kind === 'unknown';
      if (kind === 'final' || performance.now() + delay + MIN_ATTEMPT_MS > giveUpAt) {
        throw new KeyledgerError(mayBeDone ? 'OUTCOME_UNKNOWN' : 'UNAVAILABLE', { cause });
      }
    }
    await pause(delay);
  }
}

/**
 * Decides whether to read again after a failure, and waits before that.
 * @param giveUpAt by performance.now()
 * @returns false: the failure is final, or the time is up
 */
export async function backOffBeforeRetry(error: unknown, giveUpAt: number, attempt: number): Promise<boolean> {
  const delay = backOffMs(attempt, MIN_BACKOFF_MS, MAX_BACKOFF_MS);
  if (classifyError(error) === 'final' || performance.now() + delay + MIN_ATTEMPT_MS > giveUpAt) return false;
  await pause(delay);
  return true;
}
