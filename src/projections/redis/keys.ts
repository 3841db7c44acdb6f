import { crc32 } from 'node:zlib';
import { groupBy } from '../../grouping.js';
import { READ_MODEL_VERSION } from '../list-item.js';

/**
 * The keys of the read model in Redis. Those of a partition share a hash tag, so that a cluster keeps them together;
 * a repository is in one partition. `<p>` is `<prefix>:<version>:{<partition>}`.
 *
 * | key | type | content |
 * |---|---|---|
 * | `<p>:live` | hash | live generation; position and eventId of its checkpoint |
 * | `<p>:generations` | hash | generation that is being built, or was replaced -> time of its last write (EpochMs) |
 * | `<p>:<generation>:repos` | set | its repositories |
 * | `<p>:<generation>:quarantined` | set | ids of its quarantined keys |
 * | `<p>:<generation>:items:<repo>` | hash | key id -> revision, a space, the item as JSON |
 * | `<p>:<generation>:all:<repo>` | sorted set | `<created position>\|<key id>` of its keys, all with score 0 |
 * | `<p>:<generation>:list:<repo>` | sorted set | the same, without deleted keys |
 */

/** Number of partitions; part of the stored format. */
export const PARTITIONS = 16;

/** Each version of the read model has its own keys, so that releases can share a Redis. */
export const versionRoot = (prefix: string): string => `${prefix}:${READ_MODEL_VERSION}`;

export const partitionOf = (repoId: string): number => crc32(repoId) % PARTITIONS;

export const groupByPartition = <T extends { readonly repoId: string }>(items: Iterable<T>): Map<number, T[]> =>
  groupBy(items, ({ repoId }) => partitionOf(repoId));

export type Partition = { readonly base: string; readonly live: string; readonly generations: string };

export function partitionKeys(root: string, number: number): Partition {
  const base = `${root}:{${number}}`;
  return { base, live: `${base}:live`, generations: `${base}:generations` };
}

/** Sets of a generation: its repositories and its quarantined keys. */
export const generationSets = ({ base }: Partition, generation: string): [repos: string, quarantined: string] => [
  `${base}:${generation}:repos`,
  `${base}:${generation}:quarantined`,
];

export const repositoryKeys = (
  { base }: Partition,
  generation: string,
  repoId: string,
): [items: string, all: string, list: string] => [
  `${base}:${generation}:items:${repoId}`,
  `${base}:${generation}:all:${repoId}`,
  `${base}:${generation}:list:${repoId}`,
];
