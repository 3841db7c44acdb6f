import type { BaseLogger } from 'pino';
import { type Connection, connectRedis, waitUntilReady, warnAboutDurability } from '../../redis/connection.js';
import { Lease } from '../../redis/lease.js';
import { RedisHealthLog, RedisUnavailable, redisErrorMapper } from '../../redis/report.js';
import type { ListItem } from '../list-item.js';
import type { Checkpoint, KeySource, ListRequest, ReadModel } from '../read-model.js';
import { parseDocument } from './generations.js';
import { groupByPartition, PARTITIONS, partitionKeys, partitionOf, repositoryKeys, versionRoot } from './keys.js';
import { PartitionModel } from './partition-model.js';
import { READ_MODEL_SCRIPTS } from './scripts.js';
import { ReadModelVersions } from './versions.js';

const LEASE_TTL_MS = 2000;

/**
 * Opens the read model in Redis, which may still be unavailable.
 *
 * All instances that share it fold the log, but only the holder of a lease writes; the others wait for its writes and
 * take over when the lease expires. Two instances that both believe that they hold it (a flush removes the lease) do no
 * harm: documents are guarded by revision, and checkpoints never go back. A build from nothing makes a generation that
 * is not read before it is complete.
 * @param prefix of every key in Redis
 */
export function openRedisReadModel(url: string, prefix: string, logger: BaseLogger): ReadModel {
  const redis = connectRedis(url, READ_MODEL_SCRIPTS);
  redis.on('ready', () => void warnAboutDurability(redis, logger));
  const healthLog = new RedisHealthLog(redis, url, logger);
  return withReporting(new RedisReadModel(redis, prefix, logger), redis, healthLog, redisErrorMapper(redis, url));
}

/** Logs failures and recovery. The first call waits for the connection. */
function withReporting(
  model: ReadModel,
  redis: Connection,
  healthLog: RedisHealthLog,
  mapError: (error: unknown) => unknown,
) {
  let connecting: Promise<void> | undefined;
  const call = async <T>(work: () => Promise<T>): Promise<T> => {
    connecting ??= waitUntilReady(redis).catch(() => undefined);
    await connecting;
    try {
      return await work();
    } catch (cause) {
      const error = mapError(cause);
      if (error instanceof RedisUnavailable) healthLog.failed(error.reason);
      throw error;
    }
  };
  return {
    restore: (...args) => call(() => model.restore(...args)).then(() => healthLog.succeeded()),
    apply: (...args) => call(() => model.apply(...args)).then(() => healthLog.succeeded()),
    list: (...args) => call(() => model.list(...args)),
    get: (...args) => call(() => model.get(...args)),
    checkpoint: (...args) => call(() => model.checkpoint(...args)),
    close: () => model.close(),
  } satisfies ReadModel;
}

class RedisReadModel implements ReadModel {
  readonly #redis: Connection;
  readonly #versions: ReadModelVersions;
  readonly #writerLease: Lease;
  readonly #partitions: readonly PartitionModel[];

  constructor(redis: Connection, prefix: string, logger: BaseLogger) {
    const root = versionRoot(prefix);
    this.#redis = redis;
    this.#versions = new ReadModelVersions(redis, prefix, logger);
    this.#writerLease = new Lease(redis, `${root}:{writer}:lease`, LEASE_TTL_MS);
    this.#partitions = Array.from(
      { length: PARTITIONS },
      (_, number) => new PartitionModel(redis, partitionKeys(root, number), this.#writerLease),
    );
  }

  /** One partition after another, so that few keys are in memory at once. */
  async restore(
    source: KeySource,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
    signal?: AbortSignal,
  ): Promise<void> {
    for (const [number, partition] of this.#partitions.entries()) {
      await partition.restore(source, (repoId) => partitionOf(repoId) === number, holds, signal);
    }
    await this.#versions.startAnnouncing();
  }

  async apply(items: readonly ListItem[], checkpoint: Checkpoint, signal?: AbortSignal): Promise<void> {
    const groups = [...groupByPartition(items)];
    await settleAll(groups.map(([number, changed]) => this.#partition(number).apply(changed, checkpoint, signal)));
  }

  async list(repoId: string, { includeDeleted, before, size }: ListRequest): Promise<ListItem[]> {
    const upper = before === undefined ? '+' : `(${before}`;
    const stored = await this.#partitionOf(repoId).read<(string | null)[]>((partition, generation, floor) => {
      const [items, all, list] = repositoryKeys(partition, generation, repoId);
      const from = includeDeleted ? all : list;
      return this.#redis.keyledgerList(partition.live, from, items, generation, floor, upper, size);
    });
    return stored.flatMap((text) => (text === null ? [] : [parseDocument(text)]));
  }

  async get(repoId: string, apiKeyId: string): Promise<ListItem | undefined> {
    const stored = await this.#partitionOf(repoId).read<string | null>((partition, generation, floor) => {
      const [items] = repositoryKeys(partition, generation, repoId);
      return this.#redis.keyledgerGet(partition.live, items, generation, floor, apiKeyId);
    });
    return stored === null ? undefined : parseDocument(stored);
  }

  async checkpoint(repoId: string): Promise<Checkpoint | undefined> {
    return (await this.#partitionOf(repoId).live()).checkpoint;
  }

  async close(): Promise<void> {
    this.#versions.stop();
    if (this.#redis.status === 'end') return;
    await this.#writerLease.release().catch(() => undefined);
    this.#redis.disconnect();
  }

  #partition(number: number): PartitionModel {
    return this.#partitions[number] as PartitionModel;
  }

  #partitionOf(repoId: string): PartitionModel {
    return this.#partition(partitionOf(repoId));
  }
}

/** Waits for all tasks, so that none runs on while the caller retries; then throws the first failure. */
async function settleAll(tasks: readonly Promise<void>[]): Promise<void> {
  for (const task of await Promise.allSettled(tasks)) if (task.status === 'rejected') throw task.reason;
}
