import type { ProjectionsDb, TABLES } from './projections-db.js';
import { RecordTable, textCodec } from './records.js';

/** Mean number of entries in a bucket: about 550 bytes. */
const BUCKET_SIZE = 32;
/** Buckets in memory, 20 MB at most. */
const KEPT_BUCKETS = 24_576;
/** An entry is the hash of the text and the number that it stands for, both in base 36 of fixed width. */
const HASH_LENGTH = 7;
const ENTRY_LENGTH = HASH_LENGTH + 10;

/** The number of entries of an index, which the store keeps with its other counts. */
export type EntryCount = { get(): number; set(entries: number): void };

/**
 * Finds records by a text, such as an access key. Linear hashing (Witold Litwin, 1980): the buckets grow in number, one
 * at a time, with the entries.
 *
 * An index of SQLite's own finds nothing where one of its pages is damaged, and a key that exists would be unknown.
 * Here every bucket exists and has a checksum, so it proves what it does not hold.
 */
export class HashIndex {
  readonly #buckets: RecordTable<string>;
  readonly #count: EntryCount;

  constructor(db: ProjectionsDb, name: keyof typeof TABLES, count: EntryCount) {
    this.#buckets = new RecordTable(db, name, textCodec, { kept: KEPT_BUCKETS });
    this.#count = count;
  }

  /**
   * The numbers that the text may stand for, the latest first: texts may share a hash, so the caller compares the
   * records.
   * @throws KeyledgerError PROJECTIONS_DAMAGED
   */
  find(text: string): number[] {
    const entries = this.#count.get();
    if (entries === 0) return [];
    const hash = hashOf(text);
    const bucket = this.#buckets.get(bucketOf(hash, bucketsFor(entries)));
    const digits = encodeHash(hash);
    const found: number[] = [];
    for (let at = bucket.indexOf(digits); at >= 0; at = bucket.indexOf(digits, at + 1)) {
      if (at % ENTRY_LENGTH === 0)
        found.unshift(Number.parseInt(bucket.slice(at + HASH_LENGTH, at + ENTRY_LENGTH), 36));
    }
    return found;
  }

  add(text: string, number: number): void {
    const entries = this.#count.get() + 1;
    const buckets = bucketsFor(entries);
    if (entries === 1) this.#buckets.set(0, '');
    else if (buckets > bucketsFor(entries - 1)) this.#split(buckets);
    this.#count.set(entries);
    const hash = hashOf(text);
    const bucket = bucketOf(hash, buckets);
    this.#buckets.set(bucket, this.#buckets.get(bucket) + encodeHash(hash) + number.toString(36).padStart(10, '0'));
  }

  flush(): number {
    return this.#buckets.flush();
  }

  discard(): void {
    this.#buckets.discard();
  }

  /** Fills the newest bucket with the entries that belong there now; all of them are in one bucket. */
  #split(buckets: number): void {
    const newest = buckets - 1;
    const source = bucketOf(newest, newest);
    const bucket = this.#buckets.get(source);
    let [kept, moved] = ['', ''];
    for (let at = 0; at < bucket.length; at += ENTRY_LENGTH) {
      const entry = bucket.slice(at, at + ENTRY_LENGTH);
      const hash = Number.parseInt(entry.slice(0, HASH_LENGTH), 36);
      if (bucketOf(hash, buckets) === newest) moved += entry;
      else kept += entry;
    }
    this.#buckets.set(source, kept);
    this.#buckets.set(newest, moved);
  }
}

const bucketsFor = (entries: number): number => Math.ceil(entries / BUCKET_SIZE);

/** The bucket of a hash among a number of buckets that is no power of two: the upper half of them is not complete. */
function bucketOf(hash: number, buckets: number): number {
  const upper = 2 ** Math.ceil(Math.log2(buckets));
  const bucket = hash % upper;
  return bucket < buckets ? bucket : bucket - upper / 2;
}

const encodeHash = (hash: number): string => hash.toString(36).padStart(HASH_LENGTH, '0');

/** FNV-1a of 32 bits (draft-eastlake-fnv), mixed once more so that its low bits, which name the bucket, are even. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
