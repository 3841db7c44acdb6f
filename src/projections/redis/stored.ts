import { Cluster } from 'ioredis';
import type { Connection } from '../../redis/connection.js';
import type { ListItem } from '../list-item.js';
import { type LiveGeneration, parseLiveGeneration } from './generations.js';
import { generationSets, PARTITIONS, type Partition, partitionKeys, repositoryKeys, versionRoot } from './keys.js';

/** The stored form of one key, read atomically. */
export type StoredKey = {
  readonly live: LiveGeneration;
  /** See toDocument; null if there is none. */
  readonly document: string | null;
  readonly inAll: boolean;
  readonly inList: boolean;
  readonly isQuarantined: boolean;
};

/** Stored documents and list members of a repository, read while instances may write. */
export type StoredRepository = {
  readonly documents: ReadonlyMap<string, string>;
  readonly all: ReadonlySet<string>;
  readonly list: ReadonlySet<string>;
};

/** The repositories of each generation as found by their Redis keys, and unknown Redis keys. */
export type Inventory = {
  readonly repositories: ReadonlyMap<Partition, ReadonlyMap<string, ReadonlySet<string>>>;
  readonly unknown: readonly string[];
};

const KINDS = ['items', 'all', 'list'];

/** Scans every Redis key of the read model, including those that it does not refer to. */
export async function takeInventory(redis: Connection, prefix: string): Promise<Inventory> {
  const root = versionRoot(prefix);
  const partitions = Array.from({ length: PARTITIONS }, (_, number) => partitionKeys(root, number));
  const repositories = new Map<Partition, Map<string, Set<string>>>(partitions.map((one) => [one, new Map()]));
  const unknown: string[] = [];
  const nodes = redis instanceof Cluster ? redis.nodes('master') : [redis];
  for (const node of nodes) {
    for await (const keys of node.scanStream({ match: `${root}:{*`, count: 1000 })) {
      for (const key of keys as string[]) {
        const [, number, rest = ''] = /\{(\w+)\}:(.*)$/s.exec(key) ?? [];
        const [generation = '', kind = '', ...repo] = rest.split(':');
        const known = repositories.get(partitions[Number(number)] as Partition);
        if (known && KINDS.includes(kind) && repo.length > 0) {
          const there = known.get(generation) ?? new Set();
          known.set(generation, there.add(repo.join(':')));
        } else if (
          number !== 'writer' &&
          !(known && ['live', 'generations'].includes(rest)) &&
          !(known && ['repos', 'quarantined'].includes(kind))
        ) {
          unknown.push(key);
        }
      }
    }
  }
  return { repositories, unknown };
}

export async function readRepository(
  redis: Connection,
  partition: Partition,
  generation: string,
  repoId: string,
): Promise<StoredRepository> {
  const [items, all, list] = repositoryKeys(partition, generation, repoId);
  const documents = new Map<string, string>();
  for await (const page of redis.hscanStream(items, { count: 500 })) {
    const flat = page as string[];
    for (let i = 0; i < flat.length; i += 2) documents.set(flat[i] as string, flat[i + 1] as string);
  }
  const members = async (key: string) => {
    const found = new Set<string>();
    for await (const page of redis.zscanStream(key, { count: 500 })) {
      const flat = page as string[];
      for (let i = 0; i < flat.length; i += 2) found.add(flat[i] as string);
    }
    return found;
  };
  return { documents, all: await members(all), list: await members(list) };
}

/** @param member of the key in the lists, see sortedSetMember */
export async function readKey(
  redis: Connection,
  partition: Partition,
  generation: string,
  { repoId, apiKeyId }: Pick<ListItem, 'repoId' | 'apiKeyId'>,
  member: string,
): Promise<StoredKey> {
  const [items, all, list] = repositoryKeys(partition, generation, repoId);
  const [, quarantined] = generationSets(partition, generation);
  const answers = await redis
    .multi()
    .hgetall(partition.live)
    .hget(items, apiKeyId)
    .zscore(all, member)
    .zscore(list, member)
    .sismember(quarantined, apiKeyId)
    .exec();
  const [live, document, inAll, inList, isQuarantined] = (answers ?? []).map(([error, answer]) => {
    if (error) throw error;
    return answer;
  });
  return {
    live: parseLiveGeneration(live as Record<string, string>),
    document: document as string | null,
    inAll: inAll !== null,
    inList: inList !== null,
    isQuarantined: isQuarantined === 1,
  };
}
