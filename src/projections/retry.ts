import type { BaseLogger } from 'pino';
import { backOffMs, sleep } from '../back-off.js';

const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 5000;

/**
 * Logs a failure and waits before the next attempt. An expected failure, which its source reports once by itself, is
 * logged at debug level only.
 * @param failures before this one, from 0
 */
export async function backOff(
  what: string,
  error: unknown,
  failures: number,
  logger: BaseLogger,
  signal: AbortSignal,
): Promise<void> {
  const delay = backOffMs(failures, MIN_BACKOFF_MS, MAX_BACKOFF_MS);
  const { expected, message } = error as { expected?: boolean; message?: string };
  if (expected) logger.debug({ err: { message }, delay }, `${what}; trying again`);
  else logger.warn({ err: error, delay }, `${what}; trying again`);
  await sleep(delay, signal);
}
