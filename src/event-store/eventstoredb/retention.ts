import { type AllStreamRecordedEvent, START, streamNameFilter } from '@eventstore/db-client';
import type { Connection } from './connection.js';
import { BATCH_SIZE, subscriptionBatches } from './reads.js';
import { errorReason } from './retry.js';

/** Settings in a stream's metadata that let the server drop its events. */
const LIMITS = ['$maxAge', '$maxCount', '$tb'];
const NAMED = 5;

/**
 * Warns of streams whose metadata lets the server drop events, with which keys would change or vanish. Reads the
 * metadata of all streams once, in the background; a server before 23.10 reports no end, so the warning comes when the
 * log closes.
 * @param prefixes of the names of the streams; `$all` is checked too
 */
export async function warnOfRetention(
  { client, credentials }: Connection,
  prefixes: readonly string[],
  signal: AbortSignal,
  warn: (message: string) => void,
): Promise<void> {
  const filter = streamNameFilter({
    prefixes: [...prefixes, '$all'].map((prefix) => `$$${prefix}`),
    checkpointInterval: 1000,
    maxSearchWindow: 4096,
  });
  const limited = new Map<string, string>();
  try {
    const subscription = client.subscribeToAll(
      { fromPosition: START, filter, ...credentials },
      { highWaterMark: BATCH_SIZE },
    );
    for await (const { events, caughtUp } of subscriptionBatches(subscription, signal)) {
      for (const event of events) {
        const limits = limitsOf(event);
        if (limits) limited.set(event.streamId.slice(2), limits);
        else limited.delete(event.streamId.slice(2));
      }
      if (caughtUp) break;
    }
  } catch (error) {
    warn(`Whether the server may drop events of the log is unknown: ${errorReason(error)}`);
  }
  if (limited.size === 0) return;
  const some = [...limited].slice(0, NAMED).map(([stream, limits]) => `${stream} (${limits})`);
  const more = limited.size > NAMED ? ` and ${limited.size - NAMED} more` : '';
  warn(`The server may drop events of the log: remove the limits of ${some.join(', ')}${more}`);
}

function limitsOf({ data }: AllStreamRecordedEvent): string | undefined {
  const metadata = data as Record<string, unknown>;
  const limits = LIMITS.filter((name) => metadata[name] !== undefined);
  return limits.length > 0 ? limits.map((name) => `${name} ${metadata[name]}`).join(', ') : undefined;
}
