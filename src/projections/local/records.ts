import { crc32 } from 'node:zlib';
import type { StatementSyncInstance } from '@photostructure/sqlite';
import { LRUCache } from 'lru-cache';
import type { ProjectionsDb, TABLES } from './projections-db.js';

/** Converts between a value and the body of its record. */
export type RecordCodec<T, Body extends string | Uint8Array> = {
  readonly encode: (value: T, id: number) => Body;
  readonly decode: (body: Body, id: number) => T;
};

export type RecordTableOptions = {
  /** Records in one query of a range. */
  readonly rangeSize?: number;
  /** Records that stay in memory after they were read or written. */
  readonly kept?: number;
};

type Row<Body> = { readonly id: number; readonly body: Body; readonly sum: number };

/**
 * A table of numbered records, each with a checksum over its number and body. The caller always knows whether a record
 * exists, so a missing one is damage like a changed one: no read takes damage for an answer.
 *
 * Writes collect in memory, one per record, until `flush` writes them in the transaction of the caller; reads see them.
 */
export class RecordTable<T extends object | string, Body extends string | Uint8Array = string> {
  readonly #db: ProjectionsDb;
  readonly #name: string;
  readonly #codec: RecordCodec<T, Body>;
  readonly #seed: number;
  readonly #select: StatementSyncInstance;
  readonly #selectUp: StatementSyncInstance;
  readonly #selectDown: StatementSyncInstance;
  readonly #upsert: StatementSyncInstance;
  readonly #kept: LRUCache<number, T> | undefined;
  #changed = new Map<number, T>();

  /** @param name of the table, see TABLES */
  constructor(
    db: ProjectionsDb,
    name: keyof typeof TABLES,
    codec: RecordCodec<T, Body>,
    { rangeSize = 100, kept }: RecordTableOptions = {},
  ) {
    this.#db = db;
    this.#name = name;
    this.#codec = codec;
    this.#seed = crc32(name);
    this.#kept = kept === undefined ? undefined : new LRUCache({ max: kept });
    const select = `SELECT id, body, sum FROM ${name}`;
    this.#select = db.prepare(`${select} WHERE id = ?`);
    this.#selectUp = db.prepare(`${select} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ${rangeSize}`);
    this.#selectDown = db.prepare(`${select} WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ${rangeSize}`);
    this.#upsert = db.prepare(`INSERT OR REPLACE INTO ${name} (id, body, sum) VALUES (?, ?, ?)`);
  }

  /** @throws KeyledgerError PROJECTIONS_DAMAGED; so do all reads below */
  get(id: number): T {
    const changed = this.#changed.get(id);
    if (changed !== undefined) return changed;
    // Through the guard too: memory says nothing of a file that is gone.
    const kept = this.#kept && this.#db.read(() => this.#kept?.get(id));
    if (kept !== undefined) return kept;
    const value = this.#open(id, this.#db.read(() => this.#select.get(id)) as Row<Body> | undefined);
    this.#kept?.set(id, value);
    return value;
  }

  /** The stored records from `first` on, before `end`; without what was set since the last flush. */
  *range(first: number, end: number): Generator<T> {
    for (let next = first; next < end; ) {
      const rows = this.#db.read(() => this.#selectUp.all(next, end - 1)) as Row<Body>[];
      for (const row of rows.length > 0 ? rows : [undefined]) yield this.#open(next++, row);
    }
  }

  /** As `range`, the last record first. */
  *rangeDown(first: number, end: number): Generator<T> {
    for (let last = end - 1; last >= first; ) {
      const rows = this.#db.read(() => this.#selectDown.all(first, last)) as Row<Body>[];
      for (const row of rows.length > 0 ? rows : [undefined]) yield this.#open(last--, row);
    }
  }

  set(id: number, value: T): void {
    this.#changed.set(id, value);
  }

  /** Writes what was set since the last call, in order: neighbours are on one page. @returns the number of records */
  flush(): number {
    for (const [id, value] of [...this.#changed].sort(([a], [b]) => a - b)) {
      const body = this.#codec.encode(value, id);
      this.#upsert.run(id, body, this.#checksum(id, body));
      this.#kept?.set(id, value);
    }
    const { size } = this.#changed;
    this.#changed = new Map();
    return size;
  }

  /** Forgets what was set since the last commit, which a flush may have written. */
  discard(): void {
    this.#changed = new Map();
    this.#kept?.clear();
  }

  #open(id: number, row: Row<Body> | undefined): T {
    if (row?.id !== id) throw this.#db.damaged(`Record ${id} of ${this.#name} is missing`);
    // Damage to a row's header changes the type of its values.
    const isBody = typeof row.body === 'string' || row.body instanceof Uint8Array;
    if (!isBody || row.sum !== this.#checksum(id, row.body))
      throw this.#db.damaged(`Record ${id} of ${this.#name} was changed`);
    return this.#codec.decode(row.body, id);
  }

  /** CRC-32 of the body, begun with table and number, so that a record found in the wrong place does not pass. */
  #checksum(id: number, body: Body): number {
    return crc32(body, (this.#seed ^ Math.imul(id % TWO_TO_32, GOLDEN_RATIO) ^ Math.floor(id / TWO_TO_32)) >>> 0);
  }
}

const TWO_TO_32 = 2 ** 32;
const GOLDEN_RATIO = 0x9e3779b1;

/** Records as JSON. */
export const jsonCodec = <T>(): RecordCodec<T, string> => ({
  encode: (value) => JSON.stringify(value),
  decode: (body) => JSON.parse(body) as T,
});

/** Records that are text as it is. */
export const textCodec: RecordCodec<string, string> = { encode: (text) => text, decode: (text) => text };
