import { apiKeyStream } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { groupBy } from '../grouping.js';
import type { ListItem } from '../projections/list-item.js';
import { type KeySource, logContains } from '../projections/read-model.js';
import {
  type LiveGeneration,
  readLiveGeneration,
  sortedSetMember,
  toDocument,
} from '../projections/redis/generations.js';
import { generationSets, type Partition, partitionOf } from '../projections/redis/keys.js';
import { readKey, readRepository, type StoredRepository, takeInventory } from '../projections/redis/stored.js';
import { countOf } from '../quantity.js';
import type { Connection } from '../redis/connection.js';
import { compareKey } from './compare-key.js';

/** Difference between the read model and the log. */
export type Difference = {
  readonly repoId: string | null;
  readonly apiKeyId: string | null;
  readonly difference: string;
};

export type Compared = {
  readonly keys: number;
  readonly differences: number;
  /** Position of the last event that the read model claims to hold; undefined if it holds nothing. */
  readonly position: Position | undefined;
};

export type ComparisonProgress = {
  readonly onDifference: (difference: Difference) => void;
  /** Called with a number of compared keys. */
  readonly onCompared: (keys: number) => void;
};

/** The comparison cannot decide whether the read model is right. */
export class InconclusiveError extends Error {}

/** A rebuild may replace a partition while it is being compared. */
const ATTEMPTS = 10;

/**
 * Compares what Redis serves with the fold of the log, key by key, while both grow. Compares keys that differ at first
 * sight again, each at one position of the log: see compareKey.
 * @param source every key in the log as of some position
 * @throws InconclusiveError
 */
export async function compare(
  log: EventStore,
  redis: Connection,
  prefix: string,
  source: KeySource,
  { onDifference, onCompared }: ComparisonProgress,
): Promise<Compared> {
  const { repositories, unknown } = await takeInventory(redis, prefix);
  let [keys, differences, position] = [0, 0, '' as Position | ''];
  for (const [number, [partition, generations]] of [...repositories].entries()) {
    const items: ListItem[] = [];
    for await (const some of source.all((repoId) => partitionOf(repoId) === number)) items.push(...some);
    for (let attempt = 1; ; attempt++) {
      if (attempt > ATTEMPTS) throw new InconclusiveError('Rebuilds keep replacing the read model');
      const live = await readLiveGeneration(redis, partition);
      const stored = generations.get(live.generation) ?? [];
      const ofPartition = await comparePartition(log, redis, partition, live, items, stored);
      if ((await readLiveGeneration(redis, partition)).generation !== live.generation) continue;
      ofPartition.forEach(onDifference);
      differences += ofPartition.length;
      if (live.checkpoint && live.checkpoint.position > position) position = live.checkpoint.position;
      break;
    }
    keys += items.length;
    onCompared(items.length);
  }
  for (const key of unknown)
    onDifference({ repoId: null, apiKeyId: null, difference: `Redis has the unknown key ${key}` });
  return { keys, differences: differences + unknown.length, position: position || undefined };
}

/** @param stored repositories with keys in the live generation, whether or not its set of repositories names them */
async function comparePartition(
  log: EventStore,
  redis: Connection,
  partition: Partition,
  live: LiveGeneration,
  items: readonly ListItem[],
  stored: Iterable<string>,
): Promise<Difference[]> {
  const { generation, checkpoint } = live;
  if (!checkpoint) {
    if (items.length === 0 && generation === '') return [];
    throw new InconclusiveError(
      `The read model holds none of ${countOf(items.length, 'keys')} yet: start the service, or run projection rebuild`,
    );
  }
  const differences: Difference[] = [];
  if (!(await logContains(log, checkpoint))) {
    const difference = `${partition.live} names an event that the log does not hold at ${checkpoint.position}`;
    differences.push({ repoId: null, apiKeyId: null, difference });
  }
  const byRepository = groupBy(items, ({ repoId }) => repoId);
  const [repos, quarantinedIds] = generationSets(partition, generation);
  const known = new Set(await redis.smembers(repos));
  const quarantined = new Set(await redis.smembers(quarantinedIds));
  const ids = new Set(items.map(({ apiKeyId }) => apiKeyId));
  for (const id of quarantined) {
    if (ids.has(id) || (await existsInLog(log, id))) continue;
    differences.push({
      repoId: null,
      apiKeyId: id,
      difference: 'it is in quarantine, but the log holds no such key',
    });
  }
  for (const repoId of new Set([...byRepository.keys(), ...stored])) {
    const there = await readRepository(redis, partition, generation, repoId);
    if (there.documents.size > 0 && !known.has(repoId) && !(await redis.sismember(repos, repoId))) {
      differences.push({ repoId, apiKeyId: null, difference: `${repos} does not name the repository` });
    }
    for (const [apiKeyId, members] of findSuspects(byRepository.get(repoId) ?? [], there, quarantined)) {
      const key = { repoId, apiKeyId };
      const read = (member: string) => readKey(redis, partition, generation, key, member);
      for (const difference of await compareKey(log, key, members, read)) {
        differences.push({ ...key, difference });
      }
    }
  }
  return differences;
}

async function existsInLog(log: EventStore, apiKeyId: string): Promise<boolean> {
  for await (const _ of log.readStream(apiKeyStream(apiKeyId))) return true;
  return false;
}

/** Keys that differ at first, with the list members found for each. */
function findSuspects(
  items: readonly ListItem[],
  { documents, all, list }: StoredRepository,
  quarantined: ReadonlySet<string>,
): Map<string, Set<string>> {
  const suspects = new Map<string, Set<string>>();
  const suspect = (id: string) => {
    const members = suspects.get(id) ?? new Set();
    suspects.set(id, members);
    return members;
  };
  const members = new Map(items.map((item) => [item.apiKeyId, sortedSetMember(item)]));
  for (const item of items) {
    const member = sortedSetMember(item);
    const isAlike =
      documents.get(item.apiKeyId) === toDocument(item) &&
      all.has(member) &&
      list.has(member) === (item.status !== 'deleted') &&
      quarantined.has(item.apiKeyId) === (item.status === 'unavailable');
    if (!isAlike) suspect(item.apiKeyId);
  }
  for (const id of documents.keys()) if (!members.has(id)) suspect(id);
  for (const member of [...all, ...list]) {
    const id = member.slice(member.indexOf('|') + 1);
    if (members.get(id) !== member) suspect(id).add(member);
  }
  return suspects;
}
