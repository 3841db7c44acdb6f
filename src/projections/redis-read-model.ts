import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { BaseLogger } from 'pino';
import type { Position } from '../event-store/position.js';
import type { ListItem } from './list.js';
import { type Checkpoint, type ReadModel, ReadModelLost } from './read-model.js';
import { type Connection, connectRedis, reportRedis } from './redis-connection.js';

/** A repository is wholly in one partition, a partition on one node of a cluster. Part of the stored form. */
const PARTITIONS = 16;
/** Items that one call of the script takes: how long Redis serves nobody else. */
const CHUNK = 500;
const PAGE = 1000;
const LEASE_MS = 2000;
/** How often an instance that does not write looks whether the one that does has done it. */
const LOOK_MS = 5;

/**
 * Opens the read model in Redis; it need not be there yet.
 *
 * Instances that share it all fold the log, but only the holder of a lease writes; the others wait
 * until they see it written, and take over when the lease runs out. Two that both believe to hold it
 * (a flush takes the lease along) do no harm: documents are guarded by revision, checkpoints never go
 * back, and of two that fill a partition the second ends the first.
 * @param prefix of every key in Redis
 */
export function openRedisReadModel(url: string, prefix: string, logger: BaseLogger): ReadModel {
  const redis = connectRedis(url);
  reportRedis(redis, logger);
  return new RedisReadModel(redis, prefix);
}

class RedisReadModel implements ReadModel {
  readonly #redis: Connection;
  readonly #prefix: string;
  readonly #me = randomUUID();
  #leaseEnds = 0;
  /** What each partition must have reached, as far as this instance has seen it written. */
  readonly #floors: (Position | '')[] = new Array(PARTITIONS).fill('');

  constructor(redis: Connection, prefix: string) {
    this.#redis = redis;
    this.#prefix = prefix;
  }

  async restore(
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
  ): Promise<void> {
    this.#floors.fill('');
    const byPartition = partitioned(items);
    await Promise.all(
      Array.from({ length: PARTITIONS }, async (_, partition) => {
        const wanted = byPartition.get(partition) ?? [];
        for (;;) {
          const at = await this.#checkpointOf(partition);
          const sound = at !== undefined && (await holds(at));
          const missing = sound ? wanted.filter(({ position }) => position > at.position) : wanted;
          if (missing.length === 0 && (sound || (await this.#isUntouched(partition)))) break;
          if (await this.#mayWrite()) {
            if (sound && checkpoint) await this.#write(partition, missing, checkpoint, at.position);
            else await this.#fill(partition, missing, checkpoint);
            break;
          }
          await setTimeout(LOOK_MS * 4);
        }
        this.#floors[partition] = lastPosition(wanted);
      }),
    );
  }

  async apply(items: readonly ListItem[], checkpoint: Checkpoint): Promise<void> {
    await Promise.all(
      [...partitioned(items)].map(async ([partition, changed]) => {
        const floor = this.#floors[partition] ?? '';
        const target = lastPosition(changed);
        for (;;) {
          if (await this.#mayWrite()) {
            await this.#write(partition, changed, checkpoint, floor);
            break;
          }
          const at = await this.#checkpointOf(partition);
          if (floor !== '' && (!at || at.position < floor)) throw new ReadModelLost();
          if (at && at.position >= target) break;
          await setTimeout(LOOK_MS);
        }
        if (target > floor) this.#floors[partition] = target;
      }),
    );
  }

  async list(repoId: string): Promise<ListItem[]> {
    const partition = partitionOf(repoId);
    const { checkpoint, filling, list, items } = this.#keys(partition, repoId);
    const floor = this.#floors[partition] ?? '';
    const found: ListItem[] = [];
    for (let upper = '+'; ; ) {
      const page = await this.#redis.keyledgerList(checkpoint, filling, list, items, floor, upper, PAGE);
      if (page === 'LOST') throw new ReadModelLost();
      const [last, stored] = page;
      for (const text of stored) if (text !== null) found.push(parsed(text));
      if (stored.length < PAGE) return found;
      upper = `(${last}`;
    }
  }

  async get(repoId: string, apiKeyId: string): Promise<ListItem | undefined> {
    const partition = partitionOf(repoId);
    const { checkpoint, filling, items } = this.#keys(partition, repoId);
    const floor = this.#floors[partition] ?? '';
    const stored = await this.#redis.keyledgerGet(checkpoint, filling, items, floor, apiKeyId);
    if (stored === 'LOST') throw new ReadModelLost();
    return stored === null ? undefined : parsed(stored);
  }

  checkpoint(repoId: string): Promise<Checkpoint | undefined> {
    return this.#checkpointOf(partitionOf(repoId));
  }

  async close(): Promise<void> {
    if (this.#redis.status === 'end') return;
    await this.#redis.keyledgerRelease(this.#lease, this.#me).catch(() => 0);
    this.#redis.disconnect();
  }

  /** Writes in chunks; the last one carries the checkpoint. @throws ReadModelLost */
  async #write(
    partition: number,
    items: readonly ListItem[],
    { position, eventId }: Checkpoint,
    floor: string,
  ) {
    for (let from = 0; from < items.length; from += CHUNK) {
      const chunk = items.slice(from, from + CHUNK);
      const repos = [...new Set(chunk.map(({ repoId }) => repoId))];
      const { checkpoint, filling, repos: known } = this.#keys(partition, '');
      const keys = [
        checkpoint,
        filling,
        known,
        ...repos.flatMap((repo) => this.#repositoryKeys(partition, repo)),
      ];
      const last = from + CHUNK >= items.length ? [position, eventId] : ['', ''];
      const stored = chunk.flatMap((item) => [repos.indexOf(item.repoId) + 1, ...storedForm(item)]);
      const answer = await this.#redis.keyledgerApply(keys.length, ...keys, floor, ...last, ...stored);
      if (answer === 'LOST') throw new ReadModelLost();
    }
  }

  /** From nothing. Whoever begins to fill after this one, or a flush, ends it. @throws ReadModelLost */
  async #fill(partition: number, items: readonly ListItem[], checkpoint: Checkpoint | undefined) {
    const filler = checkpoint && items.length > 0 ? randomUUID() : '';
    const { checkpoint: key, filling, repos, base } = this.#keys(partition, '');
    await this.#redis.keyledgerClear(key, filling, repos, base, filler);
    if (checkpoint) await this.#write(partition, items, checkpoint, `fill:${filler}`);
  }

  async #isUntouched(partition: number): Promise<boolean> {
    const { checkpoint, filling, repos } = this.#keys(partition, '');
    return (await this.#redis.exists(checkpoint, filling, repos)) === 0;
  }

  async #checkpointOf(partition: number): Promise<Checkpoint | undefined> {
    const { position, eventId } = await this.#redis.hgetall(this.#keys(partition, '').checkpoint);
    return position && eventId ? { position: position as Position, eventId } : undefined;
  }

  /** Is this the instance that writes? Renewed when half of the lease is over. */
  async #mayWrite(): Promise<boolean> {
    const asked = performance.now();
    if (asked < this.#leaseEnds - LEASE_MS / 2) return true;
    const mine = (await this.#redis.keyledgerLease(this.#lease, this.#me, LEASE_MS)) === 1;
    this.#leaseEnds = mine ? asked + LEASE_MS : 0;
    return mine;
  }

  get #lease(): string {
    return `${this.#prefix}:{writer}:lease`;
  }

  #keys(partition: number, repoId: string) {
    const base = `${this.#prefix}:{${partition}}`;
    const [items, list] = this.#repositoryKeys(partition, repoId);
    return {
      base,
      checkpoint: `${base}:checkpoint`,
      filling: `${base}:filling`,
      repos: `${base}:repos`,
      items,
      list,
    };
  }

  #repositoryKeys(partition: number, repoId: string): [items: string, list: string] {
    const base = `${this.#prefix}:{${partition}}`;
    return [`${base}:items:${repoId}`, `${base}:list:${repoId}`];
  }
}

const partitionOf = (repoId: string): number => crc32(repoId) % PARTITIONS;

function partitioned(items: readonly ListItem[]): Map<number, ListItem[]> {
  const partitions = new Map<number, ListItem[]>();
  for (const item of items) {
    const partition = partitionOf(item.repoId);
    const there = partitions.get(partition);
    if (there) there.push(item);
    else partitions.set(partition, [item]);
  }
  return partitions;
}

/** '' if there are no items. */
const lastPosition = (items: readonly ListItem[]): Position | '' =>
  items
    .map(({ position }) => position)
    .sort()
    .at(-1) ?? '';

const storedForm = (item: ListItem) => [
  item.repoId,
  item.apiKeyId,
  item.revision,
  `${item.createdPosition}|${item.apiKeyId}`,
  item.status === 'deleted' ? 0 : 1,
  JSON.stringify(item),
];

const parsed = (stored: string): ListItem => JSON.parse(stored.slice(stored.indexOf(' ') + 1)) as ListItem;
