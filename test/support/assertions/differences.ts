import type { EventStore } from '../../../src/event-store/event-store.js';
import { checkLog } from '../../../src/maintenance/check-log.js';
import { compare, type Difference } from '../../../src/maintenance/compare.js';
import { withScratchProjections } from '../../../src/maintenance/scratch-projections.js';
import { keySource } from '../../../src/projections/local/key-source.js';
import type { Connection } from '../../../src/redis/connection.js';

/** Differences between Redis and the log. */
export async function differencesBetween(log: EventStore, redis: Connection, prefix: string): Promise<Difference[]> {
  const found: Difference[] = [];
  const nothing = () => undefined;
  await withScratchProjections(log.logId, async ({ store }) => {
    await checkLog(log, store, { onViolation: nothing, onChecked: nothing, onForeign: nothing, stops: [] });
    await compare(log, redis, prefix, keySource(store), {
      onDifference: (difference) => found.push(difference),
      onCompared: nothing,
    });
  });
  return found;
}
