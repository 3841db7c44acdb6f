import type { EpochMs } from '../../domain/time.js';
import { STREAM_CATEGORIES } from '../../event-store/streams.js';
import { hashOf } from './hash-index.js';

/** Events in a full chunk: as many as fit on one page of SQLite, which each batch of events writes again. */
export const CHUNK_SIZE = 50;

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

/** A text that is compared but never shown: 64 bits of it. */
export type TextHash = readonly [number, number];
export const textHash = (text: string): TextHash => [hashOf(text), hashOf(`${text}\0`)];

/**
 * Consecutive events of the log in 80 bytes each, by columns of a row: four numbers of 8 bytes (time, number, position),
 * the 16 bytes of the stream's id, and eight numbers of 4 bytes.
 */
export class EventChunk {
  #bytes: Buffer;
  #doubles: Float64Array;
  #words: Uint32Array;
  #length: number;

  /** @param bytes as `bytes` returns them */
  constructor(bytes: Uint8Array = new Uint8Array()) {
    const isAligned = bytes.byteOffset % 8 === 0;
    const { buffer, byteOffset } = isAligned ? bytes : bytes.slice();
    this.#length = bytes.length / ROW_BYTES;
    this.#bytes = Buffer.from(buffer, byteOffset, bytes.length);
    this.#doubles = new Float64Array(buffer, byteOffset, bytes.length / 8);
    this.#words = new Uint32Array(buffer, byteOffset, bytes.length / 4);
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length * ROW_BYTES);
  }

  push(facts: EventFacts): void {
    if (this.#length * ROW_BYTES === this.#bytes.length) this.#grow();
    const row = this.#length++;
    this.#doubles.set([facts.at, facts.number, facts.high, facts.low], row * ROW_DOUBLES);
    const kind = STREAM_CATEGORIES.findIndex((category) => facts.stream.startsWith(category));
    const id = facts.stream.slice(STREAM_CATEGORIES[kind]?.length).replaceAll('-', '');
    this.#bytes.write(id, row * ROW_BYTES + ID_OFFSET, 'hex');
    const { revision, type, repository } = facts;
    const words = [revision, type, repository, ...textHash(facts.subject), ...textHash(facts.apiKeyId), kind];
    this.#words.set(words, row * ROW_WORDS + FIRST_WORD);
  }

  at(row: number): EpochMs {
    return this.#doubles[row * ROW_DOUBLES] as number;
  }

  number(row: number): number {
    return this.#doubles[row * ROW_DOUBLES + 1] as number;
  }

  position(row: number): [high: number, low: number] {
    const first = row * ROW_DOUBLES + 2;
    return [this.#doubles[first] as number, this.#doubles[first + 1] as number];
  }

  /** Negative, 0 or positive: the event is before, at or after a position. */
  compare(row: number, [high, low]: readonly [number, number]): number {
    const [ownHigh, ownLow] = this.position(row);
    return ownHigh - high || ownLow - low;
  }

  stream(row: number): string {
    const start = row * ROW_BYTES + ID_OFFSET;
    const id = this.#bytes.toString('hex', start, start + 16);
    const uuid = `${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`;
    return STREAM_CATEGORIES[this.#word(row, 7)] + uuid;
  }

  revision(row: number): number {
    return this.#word(row, 0);
  }

  type(row: number): number {
    return this.#word(row, 1);
  }

  repository(row: number): number {
    return this.#word(row, 2);
  }

  hasSubject(row: number, [first, second]: TextHash): boolean {
    return this.#word(row, 3) === first && this.#word(row, 4) === second;
  }

  isAbout(row: number, [first, second]: TextHash): boolean {
    return this.#word(row, 5) === first && this.#word(row, 6) === second;
  }

  #word(row: number, column: number): number {
    return this.#words[row * ROW_WORDS + FIRST_WORD + column] as number;
  }

  #grow(): void {
    const rows = Math.min(CHUNK_SIZE, Math.max(8, this.#length * 2));
    const bytes = Buffer.from(new ArrayBuffer(rows * ROW_BYTES));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#doubles = new Float64Array(bytes.buffer);
    this.#words = new Uint32Array(bytes.buffer);
  }
}

const ROW_BYTES = 80;
const ROW_DOUBLES = ROW_BYTES / 8;
const ROW_WORDS = ROW_BYTES / 4;
const ID_OFFSET = 4 * 8;
const FIRST_WORD = (ID_OFFSET + 16) / 4;
