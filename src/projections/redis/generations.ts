import { randomUUID } from 'node:crypto';
import type { Position } from '../../event-store/position.js';
import { chunksOf } from '../../grouping.js';
import type { Connection } from '../../redis/connection.js';
import type { ListItem } from '../list-item.js';
import type { Checkpoint } from '../read-model.js';
import { generationSets, type Partition, repositoryKeys } from './keys.js';
import type { GenerationMismatch } from './scripts.js';

/** Items in one call of a script, during which Redis serves no other client. */
const CHUNK_SIZE = 500;
/** Chunks in flight to Redis at once. */
const MAX_CHUNKS_IN_FLIGHT = 4;
/** A generation without a write for this long is abandoned. */
const ABANDONED_AFTER_MS = 60_000;

/** The generation that a partition serves; '' without checkpoint if none. */
export type LiveGeneration = { readonly generation: string; readonly checkpoint: Checkpoint | undefined };

export const readLiveGeneration = async (redis: Connection, { live }: Partition): Promise<LiveGeneration> =>
  parseLiveGeneration(await redis.hgetall(live));

/** @param hash `<partition>:live` as stored */
export function parseLiveGeneration({ generation = '', position, eventId }: Record<string, string>): LiveGeneration {
  const checkpoint = position && eventId ? { position: position as Position, eventId } : undefined;
  return { generation, checkpoint };
}

/** Result of a write; it was not done unless its generation is the live one. */
export type WriteResult = 'OK' | GenerationMismatch;

/** Result of a swap. BEHIND: the live generation is further ahead. */
export type SwapResult = WriteResult | 'BEHIND';

/** The live generation that a MOVED result names; undefined for other results. */
export const movedTo = (answer: unknown): string | undefined =>
  typeof answer === 'string' && answer.startsWith('MOVED ') ? answer.slice('MOVED '.length) : undefined;

/** Writes go to the live generation, with the checkpoint that they reach, or to one being built. */
export type WriteTarget = { readonly floor: Position | ''; readonly checkpoint: Checkpoint | undefined } | 'building';

/** Items in arrays of any size, as they come. */
export type Items = Iterable<readonly ListItem[]> | AsyncIterable<readonly ListItem[]>;

/** Writes items in chunks. The last chunk carries the checkpoint, after all others are written. */
export async function writeItems(
  redis: Connection,
  partition: Partition,
  generation: string,
  items: Items,
  target: WriteTarget,
): Promise<WriteResult> {
  const inFlight: Promise<WriteResult>[] = [];
  for await (const { chunk, isLast } of chunked(items)) {
    if (isLast || inFlight.length === MAX_CHUNKS_IN_FLIGHT) {
      const refused = (await Promise.all(inFlight.splice(0))).find((result) => result !== 'OK');
      if (refused) return refused;
    }
    const repos = [...new Set(chunk.map(({ repoId }) => repoId))];
    const stored = chunk.flatMap((item) => [repos.indexOf(item.repoId) + 1, ...scriptArguments(item)]);
    const keys = [
      target === 'building' ? partition.generations : partition.live,
      ...generationSets(partition, generation),
      ...repos.flatMap((repo) => repositoryKeys(partition, generation, repo)),
    ];
    if (target === 'building') {
      inFlight.push(redis.keyledgerBuild(keys.length, ...keys, generation, ...stored));
    } else {
      const { floor, checkpoint } = target;
      const reached = isLast && checkpoint ? [checkpoint.position, checkpoint.eventId] : ['', ''];
      inFlight.push(redis.keyledgerApply(keys.length, ...keys, generation, floor, ...reached, ...stored));
    }
  }
  return (await Promise.all(inFlight)).find((result) => result !== 'OK') ?? 'OK';
}

async function* chunked(
  items: Items,
): AsyncGenerator<{ readonly chunk: readonly ListItem[]; readonly isLast: boolean }> {
  let last: readonly ListItem[] | undefined;
  for await (const some of items) {
    for (const chunk of chunksOf(some, CHUNK_SIZE)) {
      if (last) yield { chunk: last, isLast: false };
      last = chunk;
    }
  }
  if (last) yield { chunk: last, isLast: true };
}

/** Start time, and a random part against collisions within a second. */
export const newGenerationName = (): string =>
  `${new Date().toISOString().replace(/[-:]|\.\d+/g, '')}-${randomUUID().slice(0, 8)}`;

/** Starts a generation beside the live one. */
export const beginGeneration = (redis: Connection, { generations }: Partition, generation: string): Promise<'OK'> =>
  redis.keyledgerBegin(generations, generation);

/** Keeps a generation that is still being built from being swept as abandoned. */
export const touchGeneration = (redis: Connection, partition: Partition, generation: string): Promise<WriteResult> =>
  redis.keyledgerBuild(3, partition.generations, ...generationSets(partition, generation), generation);

/** Makes a generation the live one and removes the one it replaces; does nothing unless that is `expectedLive`. */
export async function swapGeneration(
  redis: Connection,
  partition: Partition,
  swap: {
    readonly generation: string;
    readonly expectedLive: string;
    readonly checkpoint: Checkpoint | undefined;
    readonly direction: 'forward' | 'any';
  },
): Promise<SwapResult> {
  const { generation, expectedLive, checkpoint, direction } = swap;
  const { live, generations } = partition;
  const { position, eventId } = checkpoint ?? { position: '', eventId: '' };
  const args = [generation, expectedLive, position, eventId, direction] as const;
  const result = await redis.keyledgerSwitch(live, generations, ...args);
  if (result === 'OK' && expectedLive !== '') await removeGeneration(redis, partition, expectedLive);
  return result;
}

/** Removes a generation unless it is live. */
export async function removeGeneration(redis: Connection, partition: Partition, generation: string): Promise<void> {
  const [repos, quarantined] = generationSets(partition, generation);
  const base = `${partition.base}:${generation}`;
  await redis.keyledgerRemove(partition.live, partition.generations, repos, quarantined, generation, base);
}

/** Removes abandoned generations: builds that did not finish, and replaced ones that were not removed. */
export async function sweep(redis: Connection, partition: Partition): Promise<void> {
  for (const generation of await redis.keyledgerAbandoned(partition.generations, ABANDONED_AFTER_MS)) {
    await removeGeneration(redis, partition, generation);
  }
}

/** Member that orders a key in the lists of its repository. */
export const sortedSetMember = (item: Pick<ListItem, 'createdPosition' | 'apiKeyId'>): string =>
  `${item.createdPosition}|${item.apiKeyId}`;

/** Stored form of an item: its revision, which scripts compare, a space, and the item as JSON. */
export const toDocument = (item: ListItem): string => `${item.revision} ${JSON.stringify(item)}`;

/** @throws SyntaxError the document is damaged */
export const parseDocument = (document: string): ListItem =>
  JSON.parse(document.slice(document.indexOf(' ') + 1)) as ListItem;

const scriptArguments = (item: ListItem) => [
  item.repoId,
  item.apiKeyId,
  item.revision,
  sortedSetMember(item),
  listState(item),
  toDocument(item),
];

const listState = ({ status }: ListItem): string =>
  status === 'deleted' ? 'deleted' : status === 'unavailable' ? 'quarantined' : 'listed';
