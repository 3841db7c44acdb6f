import { setTimeout } from 'node:timers/promises';

/**
 * Delay before the next attempt (milliseconds): doubles with each failure up to a limit. Half of it is random, so that
 * many instances do not retry at once.
 * @param failures before this one, from 0
 */
export const backOffMs = (failures: number, minMs: number, maxMs: number): number =>
  Math.min(minMs * 2 ** failures, maxMs) * (0.5 + Math.random() / 2);

/** Waits, at most until the signal is aborted. Never rejects. */
export const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  setTimeout(ms, undefined, { signal }).catch(() => undefined);
