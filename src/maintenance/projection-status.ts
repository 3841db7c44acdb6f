import { isApiKeyStream } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { READ_MODEL_VERSION } from '../projections/list-item.js';
import { heldBy } from '../projections/read-model.js';
import { readLiveGeneration } from '../projections/redis/generations.js';
import { generationSets, PARTITIONS, partitionKeys, versionRoot } from '../projections/redis/keys.js';
import type { Connection } from '../redis/connection.js';
import { inspectQuarantine, type Quarantined } from './quarantine.js';

export type ProjectionStatus = {
  readonly version: number;
  /** How many of the partitions serve which generation; '' is none. */
  readonly generations: Readonly<Record<string, number>>;
  /** Those that are being built, or wait to be removed. */
  readonly others: readonly string[];
  /** Of the last event that it holds; null if it holds nothing. */
  readonly position: Position | null;
  /** Does the log hold that event? Not if it is another, or was restored from an older copy. */
  readonly isOfThisLog: boolean;
  /** Events of keys that it does not hold yet, and the age of the first of them in seconds. */
  readonly lag: { readonly events: number; readonly seconds: number };
  readonly quarantined: readonly Quarantined[];
};

/** What the read model in Redis is, and how far. @param now milliseconds since 1970 */
export async function projectionStatus(
  log: EventStore,
  redis: Connection,
  prefix: string,
  now: number,
): Promise<ProjectionStatus> {
  const generations: Record<string, number> = {};
  const others = new Set<string>();
  const ids = new Set<string>();
  let [position, isOfThisLog] = ['' as Position | '', true];
  for (let number = 0; number < PARTITIONS; number++) {
    const partition = partitionKeys(versionRoot(prefix), number);
    const { generation, checkpoint } = await readLiveGeneration(redis, partition);
    generations[generation] = (generations[generation] ?? 0) + 1;
    for (const other of await redis.hkeys(partition.generations)) others.add(other);
    const [, quarantined] = generationSets(partition, generation);
    for (const id of await redis.smembers(quarantined)) ids.add(id);
    if (!checkpoint) continue;
    isOfThisLog &&= await heldBy(log)(checkpoint);
    if (checkpoint.position > position) position = checkpoint.position;
  }
  const quarantined: Quarantined[] = [];
  for (const id of ids) {
    // An id that the log does not know is not quarantine but damage, which audit verify finds.
    const report = await inspectQuarantine(log, id);
    if (report) quarantined.push(report.quarantined);
  }
  return {
    version: READ_MODEL_VERSION,
    generations,
    others: [...others].sort(),
    position: position || null,
    isOfThisLog,
    lag: await lagBehind(log, isOfThisLog && position ? position : undefined, now),
    quarantined,
  };
}

async function lagBehind(log: EventStore, position: Position | undefined, now: number) {
  let events = 0;
  let seconds = 0;
  for await (const { stream, recordedAt } of log.readAll(position)) {
    if (!isApiKeyStream(stream)) continue;
    if (events++ === 0) seconds = Math.max(0, now - Date.parse(recordedAt)) / 1000;
  }
  return { events, seconds };
}
