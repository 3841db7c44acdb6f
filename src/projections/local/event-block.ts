import { crc32 } from 'node:zlib';
import type { EpochMs } from '../../domain/time.js';
import { STREAM_CATEGORIES } from '../../event-store/streams.js';
import { hashOf } from './hash-index.js';

/** The repository number of an event that concerns no known repository. */
export const NO_REPOSITORY = 2 ** 32 - 1;

/** What the projections keep of an event: where it is, and what it is found by. */
export type EventFacts = {
  /** Position as two numbers, see positionNumbers. */
  readonly high: number;
  readonly low: number;
  readonly stream: string;
  readonly revision: number;
  readonly at: EpochMs;
  /** See eventNumber. */
  readonly number: number;
  /** Number of its type, see Meta. */
  readonly type: number;
  readonly repository: number;
  /** Subject of the actor, and id of the key that it is about; '' for none. */
  readonly subject: string;
  readonly apiKeyId: string;
};

/** A text that is compared but never shown: two independent hashes of 32 bits each. */
export type TextHash = readonly [number, number];
export const textHash = (text: string): TextHash => [hashOf(text), crc32(text)];

/** Type and width of each column: how many of its numbers an event takes. The widest types first: each begins aligned. */
const COLUMNS = {
  at: [Float64Array, 1],
  number: [Float64Array, 1],
  position: [Float64Array, 2],
  subject: [Uint32Array, 2],
  apiKeyId: [Uint32Array, 2],
  /** Repository and type: most searches ask for both. */
  kind: [Uint32Array, 2],
  revision: [Uint32Array, 1],
  /** Category and id. */
  stream: [Uint8Array, 17],
} as const;

export type ColumnName = keyof typeof COLUMNS;
type ColumnOf<Name extends ColumnName> = InstanceType<(typeof COLUMNS)[Name][0]>;
export type Column = ColumnOf<ColumnName>;
export const COLUMN_NAMES = Object.keys(COLUMNS) as ColumnName[];

const EVENT_BYTES = COLUMN_NAMES.reduce((sum, name) => sum + COLUMNS[name][0].BYTES_PER_ELEMENT * COLUMNS[name][1], 0);

/** When the first and the last of some events occurred. */
export type TimeSpan = readonly [first: EpochMs, last: EpochMs];
const ANY_TIME: TimeSpan = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];

/** Consecutive events of the log by columns, each of which is loaded when it is first read. */
export class EventBlock {
  readonly #load: (name: ColumnName) => Column;
  readonly #times: () => TimeSpan;
  readonly #columns: Partial<Record<ColumnName, Column>> = {};

  constructor(load: (name: ColumnName) => Column, times: () => TimeSpan = () => ANY_TIME) {
    this.#load = load;
    this.#times = times;
  }

  /** When its events occurred, none earlier and none later. */
  get times(): TimeSpan {
    return this.#times();
  }

  column<Name extends ColumnName>(name: Name): ColumnOf<Name> {
    this.#columns[name] ??= this.#load(name);
    return this.#columns[name] as ColumnOf<Name>;
  }

  position(row: number): [high: number, low: number] {
    const column = this.column('position');
    return [column[row * 2] as number, column[row * 2 + 1] as number];
  }

  revision(row: number): number {
    return this.column('revision')[row] as number;
  }

  stream(row: number): string {
    const bytes = Buffer.from(this.column('stream').subarray(row * 17, row * 17 + 17));
    const id = bytes.toString('hex', 1);
    const uuid = `${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`;
    return STREAM_CATEGORIES[bytes[0] as number] + uuid;
  }
}

/** A block that is written event by event, and stored as a whole. */
export class EventChunk extends EventBlock {
  readonly bytes: Uint8Array;

  /** @param bytes of a chunk; or how many events it has room for */
  constructor(bytes: Uint8Array | number) {
    const own = typeof bytes === 'number' ? new Uint8Array(bytes * EVENT_BYTES) : new Uint8Array(bytes);
    const capacity = own.length / EVENT_BYTES;
    const columns = {} as Record<ColumnName, Column>;
    let offset = 0;
    for (const name of COLUMN_NAMES) {
      const [Type, width] = COLUMNS[name];
      columns[name] = new Type(own.buffer, offset, capacity * width);
      offset += columns[name].byteLength;
    }
    super((name) => columns[name]);
    this.bytes = own;
  }

  set(row: number, { high, low, stream, revision, at, number, type, repository, subject, apiKeyId }: EventFacts): void {
    this.column('at')[row] = at;
    this.column('number')[row] = number;
    this.column('position').set([high, low], row * 2);
    this.column('subject').set(textHash(subject), row * 2);
    this.column('apiKeyId').set(textHash(apiKeyId), row * 2);
    this.column('kind').set([repository, type], row * 2);
    this.column('revision')[row] = revision;
    const category = STREAM_CATEGORIES.findIndex((prefix) => stream.startsWith(prefix));
    const id = stream.slice(STREAM_CATEGORIES[category]?.length).replaceAll('-', '');
    this.column('stream')[row * 17] = category;
    this.column('stream').set(Buffer.from(id, 'hex'), row * 17 + 1);
  }
}

/** Full chunks, and a last one, as one block. */
export const joinChunks = (chunks: readonly EventChunk[]): EventBlock =>
  new EventBlock((name) => {
    const size = chunks[0]?.column(name).length ?? 0;
    const column = new COLUMNS[name][0](size * chunks.length);
    for (const [i, chunk] of chunks.entries()) column.set(chunk.column(name), i * size);
    return column;
  });

/** The number of a column, and the column from its bytes. */
export const columnNumber = (name: ColumnName): number => COLUMN_NAMES.indexOf(name);
export function columnFrom(bytes: Uint8Array, number: number): Column {
  const [Type] = COLUMNS[COLUMN_NAMES[number] as ColumnName];
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  return new Type(buffer as ArrayBuffer, byteOffset, byteLength / Type.BYTES_PER_ELEMENT);
}
export const bytesOf = ({ buffer, byteOffset, byteLength }: Column): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
