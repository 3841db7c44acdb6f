import type { EventStore } from '../../../src/event-store/event-store.js';
import { checkLog } from '../../../src/maintenance/check-log.js';
import { compare, type Difference } from '../../../src/maintenance/compare.js';
import type { Connection } from '../../../src/redis/connection.js';

/** Differences between Redis and the log. */
export async function differencesBetween(log: EventStore, redis: Connection, prefix: string): Promise<Difference[]> {
  const found: Difference[] = [];
  const nothing = () => undefined;
  const { entries } = await checkLog(log, nothing, nothing, nothing);
  await compare(log, redis, prefix, entries.values(), {
    onDifference: (difference) => found.push(difference),
    onCompared: nothing,
  });
  return found;
}
