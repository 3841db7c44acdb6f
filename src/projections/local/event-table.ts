import type { Position } from '../../event-store/position.js';
import { positionFromNumbers, positionNumbers } from '../../event-store/position.js';
import {
  bytesOf,
  COLUMN_NAMES,
  type Column,
  type ColumnName,
  columnFrom,
  columnNumber,
  EventBlock,
  EventChunk,
  type EventFacts,
  joinChunks,
  type TimeSpan,
} from './event-block.js';
import type { Meta } from './meta.js';
import { firstWhere } from './number-sequences.js';
import type { ProjectionsDb } from './projections-db.js';
import { jsonCodec, RecordTable } from './records.js';

/** Events of a group. A full one is stored by columns: a search reads only those that it asks for. */
export const GROUP_SIZE = 2_000;
/** The latest events, of the group that is not full, are stored in chunks of one page of SQLite, which each batch rewrites. */
const CHUNK_SIZE = 50;
/** A column's records are numbered from its number times this. */
const MAX_GROUPS = 2 ** 32;

/** The facts of every event of the log, by its place in it (from 0), in groups. */
export class EventTable {
  readonly #meta: () => Meta;
  readonly #columns: RecordTable<Column, Uint8Array>;
  readonly #times: RecordTable<TimeSpan>;
  readonly #chunks: RecordTable<EventChunk, Uint8Array>;

  constructor(db: ProjectionsDb, meta: () => Meta) {
    this.#meta = meta;
    this.#columns = new RecordTable<Column, Uint8Array>(db, 'event_columns', {
      encode: bytesOf,
      decode: (bytes, id) => columnFrom(bytes, Math.floor(id / MAX_GROUPS)),
    });
    this.#times = new RecordTable(db, 'event_times', jsonCodec<TimeSpan>());
    const codec = { encode: (chunk: EventChunk) => chunk.bytes, decode: (bytes: Uint8Array) => new EventChunk(bytes) };
    const options = { kept: GROUP_SIZE / CHUNK_SIZE };
    this.#chunks = new RecordTable<EventChunk, Uint8Array>(db, 'latest_events', codec, options);
  }

  /** Adds the next event of the log. */
  add(facts: EventFacts): void {
    const place = this.#meta().events++;
    const row = place % GROUP_SIZE;
    const number = Math.floor(row / CHUNK_SIZE);
    const chunk = row % CHUNK_SIZE === 0 ? new EventChunk(CHUNK_SIZE) : this.#chunks.get(number);
    chunk.set(row % CHUNK_SIZE, facts);
    this.#chunks.set(number, chunk);
    if (row < GROUP_SIZE - 1) return;
    const block = joinChunks(this.#latestChunks(GROUP_SIZE));
    const group = Math.floor(place / GROUP_SIZE);
    for (const name of COLUMN_NAMES) this.#columns.set(columnId(name, group), block.column(name));
    const times = block.column('at');
    this.#times.set(group, [Math.min(...times), Math.max(...times)]);
  }

  /** A group of events. @throws KeyledgerError PROJECTIONS_DAMAGED, as do all reads below and those of the block */
  group(number: number): EventBlock {
    const { events } = this.#meta();
    if (number < Math.floor(events / GROUP_SIZE)) {
      return new EventBlock(
        (name) => this.#columns.get(columnId(name, number)),
        () => this.#times.get(number),
      );
    }
    return joinChunks(this.#latestChunks(events % GROUP_SIZE));
  }

  /** The place of the first event after a position. */
  firstAfter(position: Position | undefined): number {
    return position === undefined ? 0 : this.#firstWhere(position, (comparison) => comparison > 0);
  }

  /** The place of the first event at or after a position. */
  firstAt(position: Position): number {
    return this.#firstWhere(position, (comparison) => comparison >= 0);
  }

  positionOf(place: number): Position {
    const { checkpoint } = this.#meta();
    const numbers = this.group(Math.floor(place / GROUP_SIZE)).position(place % GROUP_SIZE);
    return positionFromNumbers(checkpoint?.position as Position, numbers);
  }

  flush(): number {
    return this.#columns.flush() + this.#times.flush() + this.#chunks.flush();
  }

  discard(): void {
    this.#columns.discard();
    this.#times.discard();
    this.#chunks.discard();
  }

  #latestChunks(events: number): EventChunk[] {
    return Array.from({ length: Math.ceil(events / CHUNK_SIZE) }, (_, i) => this.#chunks.get(i));
  }

  /** @param isThere given how an event's position compares: negative, 0 or positive */
  #firstWhere(position: Position, isThere: (comparison: number) => boolean): number {
    const [high, low] = positionNumbers(position);
    let [loaded, group]: [number, EventBlock | undefined] = [-1, undefined];
    return firstWhere(0, this.#meta().events, (place) => {
      const number = Math.floor(place / GROUP_SIZE);
      if (number !== loaded || !group) [loaded, group] = [number, this.group(number)];
      const [ownHigh, ownLow] = group.position(place % GROUP_SIZE);
      return isThere(ownHigh - high || ownLow - low);
    });
  }
}

const columnId = (name: ColumnName, group: number): number => columnNumber(name) * MAX_GROUPS + group;
