import { setTimeout } from 'node:timers/promises';
import type { Position } from '../../event-store/position.js';
import type { Connection } from '../../redis/connection.js';
import type { Lease } from '../../redis/lease.js';
import type { ListItem } from '../list-item.js';
import { type Checkpoint, ReadModelLost } from '../read-model.js';
import {
  beginGeneration,
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

  /** See ReadModel.restore. */
  async restore(
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
  ): Promise<void> {
    this.#floor = '';
    while (!(await this.#tryRestore(items, checkpoint, holds)));
    this.#floor = lastPosition(items);
  }

  /** @returns false: another instance writes, or has swapped the generation; try again */
  async #tryRestore(
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
  ): Promise<boolean> {
    const { generation, checkpoint: at } = await this.live();
    const sound = at !== undefined && (await holds(at));
    const missing = sound ? await this.#missing(generation, items, at) : items;
    if (missing.length === 0 && (sound || generation === '')) {
      this.#generation = generation;
      return true;
    }
    if (!(await this.#writerLease.hold())) {
      await setTimeout(RESTORE_POLL_MS);
      return false;
    }
    this.#generation = generation;
    const result =
      sound && checkpoint ? await this.#write(missing, checkpoint, at.position) : await this.#build(items, checkpoint);
    if (result === 'LOST') throw new ReadModelLost();
    return result === 'OK';
  }

  /** See ReadModel.apply. */
  async apply(items: readonly ListItem[], checkpoint: Checkpoint): Promise<void> {
    const floor = this.#floor;
    const target = lastPosition(items);
    for (;;) {
      if (await this.#writerLease.hold()) {
        const isNew = this.#generation === '' && floor === '';
        const result = isNew ? await this.#build(items, checkpoint) : await this.#write(items, checkpoint, floor);
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
  async #missing(generation: string, items: readonly ListItem[], at: Checkpoint): Promise<ListItem[]> {
    const [, key] = generationSets(this.#keys, generation);
    const quarantined = new Set(await this.#redis.smembers(key));
    return items.filter(
      ({ position, apiKeyId, status }) =>
        position > at.position || (status !== 'unavailable' && quarantined.has(apiKeyId)),
    );
  }

  /** Writes to the live generation, whichever it is meanwhile. There may be none any more: then nothing is written. */
  async #write(items: readonly ListItem[], checkpoint: Checkpoint, floor: Position | ''): Promise<WriteResult> {
    for (;;) {
      const target = { floor, checkpoint };
      const result = await writeItems(this.#redis, this.#keys, this.#generation, items, target);
      const moved = movedTo(result);
      if (moved === undefined) return result;
      this.#generation = moved;
      if (moved === '') return result;
    }
  }

  /** Builds a generation of these items, which are all there are, and swaps it in for the known live one. */
  async #build(items: readonly ListItem[], checkpoint: Checkpoint | undefined): Promise<SwapResult> {
    const isEmpty = items.length === 0 || checkpoint === undefined;
    const generation = isEmpty ? '' : newGenerationName();
    if (!isEmpty) {
      await beginGeneration(this.#redis, this.#keys, generation);
      const result = await writeItems(this.#redis, this.#keys, generation, items, 'building');
      if (result !== 'OK') return result;
    }
    const swap = { generation, expectedLive: this.#generation, checkpoint, direction: 'any' } as const;
    const swapped = await swapGeneration(this.#redis, this.#keys, swap);
    if (swapped !== 'OK' && generation !== '') await removeGeneration(this.#redis, this.#keys, generation);
    this.#generation = swapped === 'OK' ? generation : (movedTo(swapped) ?? this.#generation);
    return swapped;
  }
}

/** '' if there are no items. */
function lastPosition(items: readonly ListItem[]): Position | '' {
  let last: Position | '' = '';
  for (const { position } of items) if (position > last) last = position;
  return last;
}
