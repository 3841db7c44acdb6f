import { setTimeout } from 'node:timers/promises';
import type { Position } from '../../event-store/position.js';
import type { Connection } from '../../redis/connection.js';
import type { Lease } from '../../redis/lease.js';
import type { ListItem } from '../list-item.js';
import { type Checkpoint, type KeySource, ReadModelLost } from '../read-model.js';
import {
  beginGeneration,
  type Items,
  type LiveGeneration,
  movedTo,
  newGenerationName,
  readLiveGeneration,
  removeGeneration,
  type SwapResult,
  swapGeneration,
  type WriteResult,
  writeItems,
} from './generations.js';
import { generationSets, type Partition } from './keys.js';
import type { GenerationMismatch } from './scripts.js';

/** How often an instance that does not write looks for the writes of the one that does. */
const WRITE_POLL_MS = 5;
const RESTORE_POLL_MS = 20;

/** One partition of the read model, as this instance knows it. */
export class PartitionModel {
  readonly #redis: Connection;
  readonly #keys: Partition;
  readonly #writerLease: Lease;
  /** The live generation; '' for none. */
  #generation = '';
  /** The position that this instance has seen the partition at: before it, the partition has lost data. */
  #floor: Position | '' = '';

  constructor(redis: Connection, keys: Partition, writerLease: Lease) {
    this.#redis = redis;
    this.#keys = keys;
    this.#writerLease = writerLease;
  }

  live(): Promise<LiveGeneration> {
    return readLiveGeneration(this.#redis, this.#keys);
  }

  /** See ReadModel.restore. @param includes the repositories of this partition */
  async restore(
    source: KeySource,
    includes: (repoId: string) => boolean,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
    signal?: AbortSignal,
  ): Promise<void> {
    this.#floor = '';
    for (;;) {
      const floor = await this.#tryRestore(source, includes, holds, signal);
      if (floor === undefined) continue;
      this.#floor = floor;
      return;
    }
  }

  /** @returns the position that the partition has reached; undefined: another instance was faster, try again */
  async #tryRestore(
    source: KeySource,
    includes: (repoId: string) => boolean,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
    signal: AbortSignal | undefined,
  ): Promise<Position | '' | undefined> {
    signal?.throwIfAborted();
    const { generation, checkpoint: at } = await this.live();
    const isSound = at !== undefined && (await holds(at));
    const missing = () => (isSound ? this.#missing(generation, source, includes, at) : source.all(includes));
    if ((isSound || generation === '') && (await isEmpty(missing()))) {
      this.#generation = generation;
      return at?.position ?? '';
    }
    if (!(await this.#writerLease.hold())) {
      await setTimeout(RESTORE_POLL_MS);
      return undefined;
    }
    this.#generation = generation;
    const { checkpoint } = source;
    const result =
      isSound && checkpoint
        ? await this.#write(missing, checkpoint, at.position, signal)
        : await this.#build(missing, checkpoint, signal);
    if (result === 'LOST') throw new ReadModelLost();
    if (result !== 'OK') return undefined;
    return this.#generation === '' ? '' : (checkpoint?.position ?? '');
  }

  /** See ReadModel.apply. */
  async apply(items: readonly ListItem[], checkpoint: Checkpoint, signal?: AbortSignal): Promise<void> {
    const floor = this.#floor;
    const target = lastPosition(items);
    const all = () => [items];
    for (;;) {
      signal?.throwIfAborted();
      if (await this.#writerLease.hold()) {
        const isNew = this.#generation === '' && floor === '';
        const result = isNew
          ? await this.#build(all, checkpoint, signal)
          : await this.#write(all, checkpoint, floor, signal);
        if (result === 'LOST') throw new ReadModelLost();
        if (result === 'OK') break;
      } else {
        const { checkpoint: at } = await this.live();
        if (floor !== '' && (!at || at.position < floor)) throw new ReadModelLost();
        if (at && at.position >= target) break;
        await setTimeout(WRITE_POLL_MS);
      }
    }
    if (target > this.#floor) this.#floor = target;
  }

  /** Runs a query, and again if another generation has become the live one. @throws ReadModelLost */
  async read<T>(
    query: (keys: Partition, generation: string, floor: Position | '') => Promise<T | GenerationMismatch>,
  ): Promise<T> {
    for (;;) {
      const result = await query(this.#keys, this.#generation, this.#floor);
      if (result === 'LOST') throw new ReadModelLost();
      const moved = movedTo(result);
      if (moved === undefined) return result as T;
      this.#generation = moved;
    }
  }

  /** Items that a generation lacks, or holds as quarantined while this release can read them. */
  async *#missing(
    generation: string,
    source: KeySource,
    includes: (repoId: string) => boolean,
    at: Checkpoint,
  ): AsyncGenerator<readonly ListItem[]> {
    const [, key] = generationSets(this.#keys, generation);
    const quarantined = (await this.#redis.smembers(key)).flatMap((id) => source.get(id) ?? []);
    const readable = quarantined.filter(({ status }) => status !== 'unavailable');
    if (readable.length > 0) yield readable;
    yield* source.changedAfter(at.position, includes);
  }

  /** Writes to the live generation, whichever it is meanwhile. There may be none any more: then nothing is written. */
  async #write(
    items: () => Items,
    checkpoint: Checkpoint,
    floor: Position | '',
    signal: AbortSignal | undefined,
  ): Promise<WriteResult> {
    for (;;) {
      const target = { floor, checkpoint };
      const some = unlessAborted(items(), signal);
      const result = await writeItems(this.#redis, this.#keys, this.#generation, some, target);
      const moved = movedTo(result);
      if (moved === undefined) return result;
      this.#generation = moved;
      if (moved === '') return result;
    }
  }

  /** Builds a generation of these items, which are all there are, and swaps it in for the known live one. */
  async #build(
    items: () => Items,
    checkpoint: Checkpoint | undefined,
    signal: AbortSignal | undefined,
  ): Promise<SwapResult> {
    const generation = checkpoint === undefined || (await isEmpty(items())) ? '' : newGenerationName();
    if (generation !== '') {
      await beginGeneration(this.#redis, this.#keys, generation);
      const result = await writeItems(this.#redis, this.#keys, generation, unlessAborted(items(), signal), 'building');
      if (result !== 'OK') return result;
    }
    signal?.throwIfAborted();
    const swap = { generation, expectedLive: this.#generation, checkpoint, direction: 'any' } as const;
    const swapped = await swapGeneration(this.#redis, this.#keys, swap);
    if (swapped !== 'OK' && generation !== '') await removeGeneration(this.#redis, this.#keys, generation);
    this.#generation = swapped === 'OK' ? generation : (movedTo(swapped) ?? this.#generation);
    return swapped;
  }
}

async function* unlessAborted(items: Items, signal: AbortSignal | undefined): AsyncGenerator<readonly ListItem[]> {
  for await (const some of items) {
    signal?.throwIfAborted();
    yield some;
  }
}

async function isEmpty(items: Items): Promise<boolean> {
  for await (const some of items) if (some.length > 0) return false;
  return true;
}

/** '' if there are no items. */
function lastPosition(items: readonly ListItem[]): Position | '' {
  let last: Position | '' = '';
  for (const { position } of items) if (position > last) last = position;
  return last;
}
