import { randomUUID } from 'node:crypto';
import type { Position } from '../../event-store/position.js';
import { chunksOf } from '../../grouping.js';
import type { Connection } from '../../redis/connection.js';
import type { ListItem } from '../list-item.js';
import type { Checkpoint } from '../read-model.js';
import { generationSets, type Partition, repositoryKeys } from './keys.js';
import type { GenerationMismatch } from './scripts.js';

/** Items that one call of a script takes: how long Redis serves nobody else. */
const CHUNK_SIZE = 500;
/** Chunks that are on their way to Redis at once. */
const MAX_CHUNKS_IN_FLIGHT = 4;
/** Who builds a generation writes more often than that, in milliseconds. */
const ABANDONED_AFTER_MS = 60_000;

/** What a partition serves: '' and no checkpoint if nothing. */
export type LiveGeneration = { readonly generation: string; readonly checkpoint: Checkpoint | undefined };

export const readLiveGeneration = async (redis: Connection, { live }: Partition): Promise<LiveGeneration> =>
  parseLiveGeneration(await redis.hgetall(live));

/** From the hash as Redis holds it. */
export function parseLiveGeneration({
  generation = '',
  position,
  eventId,
}: Record<string, string>): LiveGeneration {
  const checkpoint = position && eventId ? { position: position as Position, eventId } : undefined;
  return { generation, checkpoint };
}

/** What became of a write: it was not done if the generation is no longer, or not yet, what it was written to. */
export type WriteResult = 'OK' | GenerationMismatch;

/** The same of a switch; BEHIND: the one that is served has come further. */
export type SwapResult = WriteResult | 'BEHIND';

/** The generation that the answer names as the live one; undefined if it is another answer. */
export const movedTo = (answer: unknown): string | undefined =>
  typeof answer === 'string' && answer.startsWith('MOVED ') ? answer.slice('MOVED '.length) : undefined;

/** Where items are written: to the live generation, with the checkpoint that they reach, or to one being built. */
export type WriteTarget =
  | { readonly floor: Position | ''; readonly checkpoint: Checkpoint | undefined }
  | 'building';

/** Writes items to a generation in chunks. The last chunk carries the checkpoint, once all others are written. */
export async function writeItems(
  redis: Connection,
  partition: Partition,
  generation: string,
  items: readonly ListItem[],
  target: WriteTarget,
): Promise<WriteResult> {
  const inFlight: Promise<WriteResult>[] = [];
  const chunks = [...chunksOf(items, CHUNK_SIZE)];
  for (const [i, chunk] of chunks.entries()) {
    const isLast = i === chunks.length - 1;
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

/** When it was begun, and what tells it from others of that second. */
export const newGenerationName = (): string =>
  `${new Date().toISOString().replace(/[-:]|\.\d+/g, '')}-${randomUUID().slice(0, 8)}`;

/** Begins a generation beside the one that is served. */
export const beginGeneration = (
  redis: Connection,
  { generations }: Partition,
  generation: string,
): Promise<'OK'> => redis.keyledgerBegin(generations, generation);

/** Says that somebody is still at a generation, so that nobody removes it. */
export const touchGeneration = (
  redis: Connection,
  partition: Partition,
  generation: string,
): Promise<WriteResult> =>
  redis.keyledgerBuild(3, partition.generations, ...generationSets(partition, generation), generation);

/** Serves a generation from now on, and removes the one that it replaces; none of it if it is not that one. */
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

/** Removes a generation that is not served. */
export async function removeGeneration(
  redis: Connection,
  partition: Partition,
  generation: string,
): Promise<void> {
  const [repos, quarantined] = generationSets(partition, generation);
  const base = `${partition.base}:${generation}`;
  await redis.keyledgerRemove(partition.live, partition.generations, repos, quarantined, generation, base);
}

/** Removes what somebody began to build and did not finish, or replaced and did not remove. */
export async function sweep(redis: Connection, partition: Partition): Promise<void> {
  for (const generation of await redis.keyledgerAbandoned(partition.generations, ABANDONED_AFTER_MS)) {
    await removeGeneration(redis, partition, generation);
  }
}

/** The place of a key in the lists of its repository. */
export const sortedSetMember = (item: Pick<ListItem, 'createdPosition' | 'apiKeyId'>): string =>
  `${item.createdPosition}|${item.apiKeyId}`;

/** What is stored of a key: its revision, so that a script can tell which is later, a blank, and all of it. */
export const toDocument = (item: ListItem): string => `${item.revision} ${JSON.stringify(item)}`;

/** @throws SyntaxError it was damaged */
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
