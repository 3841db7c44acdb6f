import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import type { Position } from '../../event-store/position.js';
import {
  type Connection,
  connectRedis,
  waitUntilReady,
  warnAboutDurability,
} from '../../redis/connection.js';
import { RedisHealthLog, RedisUnavailable, redisErrorMapper } from '../../redis/report.js';
import type { ListItem } from '../list-item.js';
import { type Checkpoint, type ListRequest, type ReadModel, ReadModelLost } from '../read-model.js';
import {
  beginGeneration,
  movedTo,
  newGenerationName,
  parseDocument,
  readLiveGeneration,
  removeGeneration,
  type SwapResult,
  swapGeneration,
  type WriteResult,
  writeItems,
} from './generations.js';
import {
  generationSets,
  groupByPartition,
  PARTITIONS,
  type Partition,
  partitionKeys,
  partitionOf,
  repositoryKeys,
  versionRoot,
} from './keys.js';
import type { GenerationMismatch } from './scripts.js';
import { READ_MODEL_SCRIPTS } from './scripts.js';
import { ReadModelVersions } from './versions.js';

const LEASE_TTL_MS = 2000;
/** How often an instance that does not write looks whether the one that does has done it. */
const WRITE_POLL_MS = 5;

/**
 * Opens the read model in Redis; it need not be there yet.
 *
 * Instances that share it all fold the log, but only the holder of a lease writes; the others wait
 * until they see it written, and take over when the lease runs out. Two that both believe to hold it
 * (a flush takes the lease along) do no harm: documents are guarded by revision, checkpoints never go
 * back. What is made from nothing is made as a generation that nobody reads until it is whole.
 * @param prefix of every key in Redis
 */
export function openRedisReadModel(url: string, prefix: string, logger: BaseLogger): ReadModel {
  const redis = connectRedis(url, READ_MODEL_SCRIPTS);
  redis.on('ready', () => void warnAboutDurability(redis, logger));
  const report = new RedisHealthLog(redis, url, logger);
  return withReporting(
    new RedisReadModel(redis, prefix, logger),
    redis,
    report,
    redisErrorMapper(redis, url),
  );
}

/** Reports failures, and that it works again. The first call waits for the connection. */
function withReporting(
  model: ReadModel,
  redis: Connection,
  report: RedisHealthLog,
  explain: (error: unknown) => unknown,
) {
  let connecting: Promise<void> | undefined;
  const call = async <T>(work: () => Promise<T>): Promise<T> => {
    connecting ??= waitUntilReady(redis).catch(() => undefined);
    await connecting;
    try {
      return await work();
    } catch (cause) {
      const error = explain(cause);
      if (error instanceof RedisUnavailable) report.failed(error.reason);
      throw error;
    }
  };
  return {
    restore: (...args) => call(() => model.restore(...args)).then(() => report.succeeded()),
    apply: (...args) => call(() => model.apply(...args)).then(() => report.succeeded()),
    list: (...args) => call(() => model.list(...args)),
    get: (...args) => call(() => model.get(...args)),
    checkpoint: (...args) => call(() => model.checkpoint(...args)),
    close: () => model.close(),
  } satisfies ReadModel;
}

class RedisReadModel implements ReadModel {
  readonly #redis: Connection;
  readonly #root: string;
  readonly #versions: ReadModelVersions;
  readonly #instanceId = randomUUID();
  #leaseEnds = 0;
  /** The generation that each partition serves, as far as this instance knows. */
  readonly #generations: string[] = new Array(PARTITIONS).fill('');
  /** What each partition must have reached, as far as this instance has seen it written. */
  readonly #floors: (Position | '')[] = new Array(PARTITIONS).fill('');

  constructor(redis: Connection, prefix: string, logger: BaseLogger) {
    this.#redis = redis;
    this.#root = versionRoot(prefix);
    this.#versions = new ReadModelVersions(redis, prefix, logger);
  }

  async restore(
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
  ): Promise<void> {
    this.#floors.fill('');
    const byPartition = groupByPartition(items);
    await allSettledOrThrow(
      Array.from({ length: PARTITIONS }, async (_, number) => {
        const wanted = byPartition.get(number) ?? [];
        for (;;) {
          const partition = partitionKeys(this.#root, number);
          const live = await readLiveGeneration(this.#redis, partition);
          const at = live.checkpoint;
          const sound = at !== undefined && (await holds(at));
          const missing = sound ? await this.#missing(partition, live.generation, wanted, at) : wanted;
          const isThere = missing.length === 0 && (sound || live.generation === '');
          if (isThere) this.#generations[number] = live.generation;
          else if (await this.#mayWrite()) {
            this.#generations[number] = live.generation;
            const written =
              sound && checkpoint
                ? await this.#write(number, missing, checkpoint, at.position)
                : await this.#buildGeneration(number, wanted, checkpoint);
            if (written === 'LOST') throw new ReadModelLost();
            if (written !== 'OK') continue;
          } else {
            await setTimeout(WRITE_POLL_MS * 4);
            continue;
          }
          break;
        }
        this.#floors[number] = lastPosition(wanted);
      }),
    );
    await this.#versions.startAnnouncing();
  }

  async apply(items: readonly ListItem[], checkpoint: Checkpoint): Promise<void> {
    await allSettledOrThrow(
      [...groupByPartition(items)].map(async ([number, changed]) => {
        const floor = this.#floors[number] ?? '';
        const target = lastPosition(changed);
        for (;;) {
          if (await this.#mayWrite()) {
            const isNew = this.#generations[number] === '' && floor === '';
            const written = isNew
              ? await this.#buildGeneration(number, changed, checkpoint)
              : await this.#write(number, changed, checkpoint, floor);
            if (written === 'LOST') throw new ReadModelLost();
            if (written === 'OK') break;
          } else {
            const { checkpoint: at } = await readLiveGeneration(
              this.#redis,
              partitionKeys(this.#root, number),
            );
            if (floor !== '' && (!at || at.position < floor)) throw new ReadModelLost();
            if (at && at.position >= target) break;
            await setTimeout(WRITE_POLL_MS);
          }
        }
        if (target > (this.#floors[number] ?? '')) this.#floors[number] = target;
      }),
    );
  }

  async list(repoId: string, { includeDeleted, before, size }: ListRequest): Promise<ListItem[]> {
    const upper = before === undefined ? '+' : `(${before}`;
    const stored = await this.#read<(string | null)[]>(repoId, (partition, generation, floor) => {
      const [items, all, list] = repositoryKeys(partition, generation, repoId);
      const from = includeDeleted ? all : list;
      return this.#redis.keyledgerList(partition.live, from, items, generation, floor, upper, size);
    });
    return stored.flatMap((text) => (text === null ? [] : [parseDocument(text)]));
  }

  async get(repoId: string, apiKeyId: string): Promise<ListItem | undefined> {
    const stored = await this.#read<string | null>(repoId, (partition, generation, floor) => {
      const [items] = repositoryKeys(partition, generation, repoId);
      return this.#redis.keyledgerGet(partition.live, items, generation, floor, apiKeyId);
    });
    return stored === null ? undefined : parseDocument(stored);
  }

  async checkpoint(repoId: string): Promise<Checkpoint | undefined> {
    const { checkpoint } = await readLiveGeneration(
      this.#redis,
      partitionKeys(this.#root, partitionOf(repoId)),
    );
    return checkpoint;
  }

  async close(): Promise<void> {
    this.#versions.stop();
    if (this.#redis.status === 'end') return;
    await this.#redis.keyledgerRelease(this.#lease, this.#instanceId).catch(() => 0);
    this.#redis.disconnect();
  }

  /** Asks a repository's partition, again if another generation has taken its place. @throws ReadModelLost */
  async #read<T>(
    repoId: string,
    ask: (partition: Partition, generation: string, floor: string) => Promise<T | GenerationMismatch>,
  ): Promise<T> {
    const number = partitionOf(repoId);
    const partition = partitionKeys(this.#root, number);
    for (;;) {
      const answer = await ask(partition, this.#generations[number] ?? '', this.#floors[number] ?? '');
      if (answer === 'LOST') throw new ReadModelLost();
      const moved = movedTo(answer);
      if (moved === undefined) return answer as T;
      this.#generations[number] = moved;
    }
  }

  /** Those that a generation does not hold yet, or holds as quarantined and this release can read. */
  async #missing(
    partition: Partition,
    generation: string,
    wanted: readonly ListItem[],
    at: Checkpoint,
  ): Promise<ListItem[]> {
    const [, key] = generationSets(partition, generation);
    const quarantined = new Set(await this.#redis.smembers(key));
    return wanted.filter(
      ({ position, apiKeyId, status }) =>
        position > at.position || (status !== 'unavailable' && quarantined.has(apiKeyId)),
    );
  }

  /** To the live generation, and to that which has taken its place meanwhile. */
  async #write(
    number: number,
    items: readonly ListItem[],
    checkpoint: Checkpoint,
    floor: string,
  ): Promise<WriteResult> {
    const partition = partitionKeys(this.#root, number);
    for (;;) {
      const generation = this.#generations[number] ?? '';
      const to = { live: { floor, checkpoint } };
      const written = await writeItems(this.#redis, partition, generation, items, to);
      const moved = movedTo(written);
      if (moved === undefined) return written;
      this.#generations[number] = moved;
    }
  }

  /** A generation of its own for these items, which are all that there are, in place of the one that is known. */
  async #buildGeneration(
    number: number,
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
  ): Promise<SwapResult> {
    const partition = partitionKeys(this.#root, number);
    const expectedLive = this.#generations[number] ?? '';
    const isEmpty = items.length === 0 || checkpoint === undefined;
    const generation = isEmpty ? '' : newGenerationName();
    if (!isEmpty) {
      await beginGeneration(this.#redis, partition, generation);
      const written = await writeItems(this.#redis, partition, generation, items, 'building');
      if (written !== 'OK') return written;
    }
    const switched = await swapGeneration(
      this.#redis,
      partition,
      generation,
      expectedLive,
      checkpoint,
      'any',
    );
    if (switched === 'OK') this.#generations[number] = generation;
    else if (generation !== '') await removeGeneration(this.#redis, partition, generation);
    this.#generations[number] = movedTo(switched) ?? this.#generations[number] ?? '';
    return switched;
  }

  /** Is this the instance that writes? Renewed when half of the lease is over. */
  async #mayWrite(): Promise<boolean> {
    const asked = performance.now();
    if (asked < this.#leaseEnds - LEASE_TTL_MS / 2) return true;
    const mine = (await this.#redis.keyledgerLease(this.#lease, this.#instanceId, LEASE_TTL_MS)) === 1;
    this.#leaseEnds = mine ? asked + LEASE_TTL_MS : 0;
    return mine;
  }

  get #lease(): string {
    return `${this.#root}:{writer}:lease`;
  }
}

/** Waits for all of them, so that none goes on behind the back of who tries again; then fails if one has. */
async function allSettledOrThrow(tasks: readonly Promise<void>[]): Promise<void> {
  for (const task of await Promise.allSettled(tasks)) if (task.status === 'rejected') throw task.reason;
}

/** '' if there are no items. */
function lastPosition(items: readonly ListItem[]): Position | '' {
  let last: Position | '' = '';
  for (const { position } of items) if (position > last) last = position;
  return last;
}
