import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { type ApiKeyEntry, evolveApiKeyEntry } from '../projections/api-key-index.js';
import { type ListItem, toListItem } from '../projections/list-item.js';
import { type Checkpoint, logContains } from '../projections/read-model.js';
import {
  beginGeneration,
  type LiveGeneration,
  newGenerationName,
  readLiveGeneration,
  type SwapResult,
  swapGeneration,
  sweep,
  touchGeneration,
  writeItems,
} from '../projections/redis/generations.js';
import { groupByPartition, PARTITIONS, type Partition, partitionKeys, versionRoot } from '../projections/redis/keys.js';
import { registerVersion } from '../projections/redis/versions.js';
import type { Connection } from '../redis/connection.js';

export type Rebuilt = {
  readonly generation: string;
  readonly events: number;
  readonly keys: number;
  /** Position of the last event in the generation when it went live; null if the log is empty. */
  readonly position: Position | null;
};

export type RebuildProgress = {
  readonly onFold: (event: RecordedEvent) => void;
  /** Called with the number of keys just written, and the total. */
  readonly onWrite: (keys: number, total: number) => void;
};

/**
 * Builds a generation of the read model from the whole log, beside the live one, and makes it live when it has caught
 * up: each partition atomically, and never back in the log. Then removes the previous generation. If the rebuild ends
 * early, each partition that it has not replaced keeps its live generation; a later rebuild removes the remains.
 * @throws GenerationLost
 */
export async function rebuild(
  log: EventStore,
  redis: Connection,
  prefix: string,
  progress: RebuildProgress,
): Promise<Rebuilt> {
  const generation = newGenerationName();
  const partitions = Array.from({ length: PARTITIONS }, (_, number) => partitionKeys(versionRoot(prefix), number));
  const fold = new LogFold(log, progress.onFold);
  await registerVersion(redis, prefix);
  await fold.catchUp();
  const items = fold.takeChanges();
  const byPartition = groupByPartition(items);
  for (const [number, partition] of partitions.entries()) {
    await sweep(redis, partition);
    await beginGeneration(redis, partition, generation);
    const own = byPartition.get(number) ?? [];
    await writePartition(redis, partition, generation, own);
    for (const waiting of partitions.slice(0, number)) {
      if ((await touchGeneration(redis, waiting, generation)) !== 'OK') throw new GenerationLost();
    }
    progress.onWrite(own.length, items.length);
  }
  for (const [number, partition] of partitions.entries()) {
    for (let answer = 'BEHIND'; answer !== 'OK'; ) {
      const live = await readLiveGeneration(redis, partition);
      await fold.catchUp();
      for (const [changed, changes] of groupByPartition(fold.takeChanges())) {
        const unswapped = partitions[changed];
        if (unswapped && changed >= number) await writePartition(redis, unswapped, generation, changes);
      }
      answer = await swapPartition(log, redis, partition, generation, live, fold.checkpoint);
    }
  }
  return { generation, events: fold.events, keys: fold.keys, position: fold.checkpoint?.position ?? null };
}

/** @throws GenerationLost */
async function writePartition(
  redis: Connection,
  partition: Partition,
  generation: string,
  items: readonly ListItem[],
): Promise<void> {
  const written = await writeItems(redis, partition, generation, items, 'building');
  if (written !== 'OK') throw new GenerationLost();
}

/** @throws GenerationLost */
async function swapPartition(
  log: EventStore,
  redis: Connection,
  partition: Partition,
  generation: string,
  live: LiveGeneration,
  checkpoint: Checkpoint | undefined,
): Promise<SwapResult> {
  // A checkpoint that the log does not hold belongs to another log, or to events that a restored log lost.
  const direction = live.checkpoint && (await logContains(log, live.checkpoint)) ? 'forward' : 'any';
  const own = checkpoint ? generation : '';
  const answer = await swapGeneration(redis, partition, {
    generation: own,
    expectedLive: live.generation,
    checkpoint,
    direction,
  });
  if (answer === 'LOST') throw new GenerationLost();
  return answer;
}

/** The generation is lost: Redis was flushed, or restored from older data. */
export class GenerationLost extends Error {
  constructor() {
    super('Redis has lost the new generation before all partitions were replaced. Run the rebuild again');
    this.name = 'GenerationLost';
  }
}

/** Fold of the log so far, and the keys that have changed since the last call of takeChanges. */
class LogFold {
  readonly #log: EventStore;
  readonly #onFold: (event: RecordedEvent) => void;
  readonly #entries = new Map<string, ApiKeyEntry>();
  #changed = new Set<string>();
  events = 0;
  checkpoint: Checkpoint | undefined;

  constructor(log: EventStore, onFold: (event: RecordedEvent) => void) {
    this.#log = log;
    this.#onFold = onFold;
  }

  async catchUp(): Promise<void> {
    for await (const event of this.#log.readAll(this.checkpoint?.position)) {
      if (apiKeyIdOf(event.stream) !== undefined) {
        this.#entries.set(event.stream, evolveApiKeyEntry(this.#entries.get(event.stream), event));
        this.#changed.add(event.stream);
      }
      this.events++;
      this.checkpoint = { position: event.position, eventId: event.id };
      this.#onFold(event);
    }
  }

  get keys(): number {
    return this.#entries.size;
  }

  takeChanges(): ListItem[] {
    const items = [...this.#changed].flatMap((stream) => this.#entries.get(stream) ?? []).map(toListItem);
    this.#changed = new Set();
    return items;
  }
}
