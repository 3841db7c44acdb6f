import type { EpochMs } from '../domain/time.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { READ_MODEL_VERSION } from '../projections/list-item.js';
import { logContains } from '../projections/read-model.js';
import { readLiveGeneration } from '../projections/redis/generations.js';
import { generationSets, PARTITIONS, partitionKeys, versionRoot } from '../projections/redis/keys.js';
import type { Connection } from '../redis/connection.js';
import { inspectQuarantine, type Quarantined } from './quarantine.js';

export type ProjectionStatus = {
  readonly version: number;
  /** Number of partitions by the generation that they serve; '' is none. */
  readonly generations: Readonly<Record<string, number>>;
  /** Generations that are being built, or await removal. */
  readonly others: readonly string[];
  /** Position of the last event in the read model; null if it holds nothing. */
  readonly position: Position | null;
  /** Whether the log holds that event: not if it is another log, or was restored from an older copy. */
  readonly isOfThisLog: boolean;
  /** Events of keys that the read model does not hold yet, and the age of the first in seconds. */
  readonly lag: { readonly events: number; readonly seconds: number };
  readonly quarantined: readonly Quarantined[];
};

/** Status of the read model in Redis. */
export async function projectionStatus(
  log: EventStore,
  redis: Connection,
  prefix: string,
  now: EpochMs,
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
    isOfThisLog &&= await logContains(log, checkpoint);
    if (checkpoint.position > position) position = checkpoint.position;
  }
  const quarantined: Quarantined[] = [];
  for (const id of ids) {
    // An id that the log does not hold is damage rather than quarantine; audit verify reports it.
    const report = await inspectQuarantine(log, id);
    if (report) quarantined.push(report.quarantined);
  }
  return {
    version: READ_MODEL_VERSION,
    generations,
    others: [...others].sort(),
    position: position || null,
    isOfThisLog,
    lag: await countLag(log, isOfThisLog && position ? position : undefined, now),
    quarantined,
  };
}

async function countLag(log: EventStore, position: Position | undefined, now: EpochMs) {
  let events = 0;
  let seconds = 0;
  for await (const { stream, recordedAt } of log.readAll(position)) {
    if (apiKeyIdOf(stream) === undefined) continue;
    if (events++ === 0) seconds = Math.max(0, now - Date.parse(recordedAt)) / 1000;
  }
  return { events, seconds };
}
