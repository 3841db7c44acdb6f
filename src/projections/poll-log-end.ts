import type { BaseLogger } from 'pino';
import { sleep } from '../back-off.js';
import type { EventStore } from '../event-store/event-store.js';
import type { ClockReading } from '../staleness-clock.js';
import type { ProjectionProgress } from './projection-progress.js';

const LOG_END_POLL_MS = 1000;

/**
 * Reads the end of the log once a second, which tells a quiet log from an unavailable one, and confirms the projections
 * that reach it. The next read waits for the first of them only, for a second at most: the others may be slow. So a
 * projection that catches up after minutes is confirmed by a reading of the last second.
 */
export async function pollLogEnd(
  log: Pick<EventStore, 'end'>,
  progresses: readonly ProjectionProgress[],
  now: () => ClockReading,
  logger: BaseLogger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const askedAt = now();
    try {
      const end = await log.end();
      const [first] = progresses.map(async (progress) => {
        if (await progress.waitFor(end)) progress.confirmCurrentAt(askedAt);
      });
      await first;
    } catch (error) {
      logger.debug({ err: error }, 'The end of the log is unknown');
    }
    await sleep(Math.max(0, askedAt.steady + LOG_END_POLL_MS - now().steady), signal);
  }
}
