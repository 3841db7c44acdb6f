import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ListItem } from '../projections/list-item.js';
import { keySource } from '../projections/local/key-source.js';
import type { ProjectionStore } from '../projections/local/store.js';
import { type Checkpoint, type KeySource, logContains } from '../projections/read-model.js';
import {
  beginGeneration,
  type Items,
  type LiveGeneration,
  newGenerationName,
  readLiveGeneration,
  type SwapResult,
  swapGeneration,
  sweep,
  touchGeneration,
  writeItems,
} from '../projections/redis/generations.js';
import {
  groupByPartition,
  PARTITIONS,
  type Partition,
  partitionKeys,
  partitionOf,
  versionRoot,
} from '../projections/redis/keys.js';
import { registerVersion } from '../projections/redis/versions.js';
import type { Connection } from '../redis/connection.js';
import { SCRATCH_COMMIT_EVENTS, withScratchProjections } from './scratch-projections.js';

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
export function rebuild(
  log: EventStore,
  redis: Connection,
  prefix: string,
  progress: RebuildProgress,
): Promise<Rebuilt> {
  return withScratchProjections(log.logId, async ({ store }) => {
    const fold = new LogFold(log, store, progress.onFold);
    await registerVersion(redis, prefix);
    await fold.catchUp({ keepChanges: false });
    return writeGeneration(log, redis, prefix, fold, progress.onWrite);
  });
}

async function writeGeneration(
  log: EventStore,
  redis: Connection,
  prefix: string,
  fold: LogFold,
  onWrite: RebuildProgress['onWrite'],
): Promise<Rebuilt> {
  const generation = newGenerationName();
  const partitions = Array.from({ length: PARTITIONS }, (_, number) => partitionKeys(versionRoot(prefix), number));
  const { keys, source } = fold;
  for (const [number, partition] of partitions.entries()) {
    await sweep(redis, partition);
    await beginGeneration(redis, partition, generation);
    for await (const items of source.all((repoId) => partitionOf(repoId) === number)) {
      await writePartition(redis, partition, generation, [items]);
      onWrite(items.length, keys);
    }
    for (const waiting of partitions.slice(0, number)) {
      if ((await touchGeneration(redis, waiting, generation)) !== 'OK') throw new GenerationLost();
    }
  }
  for (const [number, partition] of partitions.entries()) {
    for (let answer = 'BEHIND'; answer !== 'OK'; ) {
      const live = await readLiveGeneration(redis, partition);
      await fold.catchUp({ keepChanges: true });
      for (const [changed, changes] of groupByPartition(fold.takeChanges())) {
        const unswapped = partitions[changed];
        if (unswapped && changed >= number) await writePartition(redis, unswapped, generation, [changes]);
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
  items: Items,
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
  readonly #store: ProjectionStore;
  readonly #onFold: (event: RecordedEvent) => void;
  #changed = new Set<string>();

  constructor(log: EventStore, store: ProjectionStore, onFold: (event: RecordedEvent) => void) {
    this.#log = log;
    this.#store = store;
    this.#onFold = onFold;
  }

  get events(): number {
    return this.#store.meta.events;
  }

  get keys(): number {
    return this.#store.meta.keys;
  }

  get checkpoint(): Checkpoint | undefined {
    return this.#store.checkpoint;
  }

  get source(): KeySource {
    return keySource(this.#store);
  }

  /** @param keepChanges for takeChanges; without it the caller reads all keys */
  async catchUp({ keepChanges }: { readonly keepChanges: boolean }): Promise<void> {
    let uncommitted = 0;
    for await (const event of this.#log.readAll(this.#store.position)) {
      const { apiKey } = this.#store.fold(event);
      if (apiKey && keepChanges) this.#changed.add(apiKey.key.apiKeyId);
      if (++uncommitted % SCRATCH_COMMIT_EVENTS === 0) this.#store.commit();
      this.#onFold(event);
    }
    this.#store.commit();
  }

  takeChanges(): ListItem[] {
    const items = [...this.#changed].flatMap((apiKeyId) => this.source.get(apiKeyId) ?? []);
    this.#changed = new Set();
    return items;
  }
}
