import { LRUCache } from 'lru-cache';
import { HashIndex } from './hash-index.js';
import type { Meta } from './meta.js';
import type { ProjectionsDb } from './projections-db.js';
import { jsonCodec, RecordTable } from './records.js';

/** A repository that a key, a webhook or an event is in. */
export type Repository = {
  readonly repoId: string;
  /** Number of its keys, deleted ones too. */
  keys: number;
  /** Number of its events, by the number of their type; see Meta. */
  readonly events: number[];
  /** The numbers of its webhooks, without deleted ones, in order of registration. */
  webhooks: number[];
};

/** Repositories in memory of which the number is known, so that few events look it up. */
const MAX_KNOWN = 10_000;

/** Every repository of the log, numbered from 0 in the order in which they appear. */
export class Repositories {
  readonly #meta: () => Meta;
  readonly #table: RecordTable<Repository>;
  readonly #byName: HashIndex;
  readonly #numbers = new LRUCache<string, number>({ max: MAX_KNOWN });
  readonly #names = new LRUCache<number, string>({ max: MAX_KNOWN });

  constructor(db: ProjectionsDb, meta: () => Meta) {
    this.#meta = meta;
    this.#table = new RecordTable(db, 'repositories', jsonCodec<Repository>());
    this.#byName = new HashIndex(db, 'repositories_by_name', {
      get: () => meta().repositories,
      set: (repositories) => {
        meta().repositories = repositories;
      },
    });
  }

  /** @throws KeyledgerError PROJECTIONS_DAMAGED; so do all reads below */
  find(repoId: string): number | undefined {
    const known = this.#numbers.get(repoId);
    if (known !== undefined) return known;
    const found = this.#byName.find(repoId).find((number) => this.#table.get(number).repoId === repoId);
    if (found !== undefined) this.#numbers.set(repoId, found);
    return found;
  }

  get(number: number): Repository {
    return this.#table.get(number);
  }

  nameOf(number: number): string {
    const known = this.#names.get(number);
    if (known !== undefined) return known;
    const { repoId } = this.#table.get(number);
    this.#names.set(number, repoId);
    return repoId;
  }

  /** All of them, in order of their numbers. */
  all(): Iterable<Repository> {
    return this.#table.range(0, this.#meta().repositories);
  }

  /** The repository's number, a new one if it has none. */
  findOrAdd(repoId: string): number {
    const known = this.find(repoId);
    if (known !== undefined) return known;
    const number = this.#meta().repositories;
    this.#table.set(number, { repoId, keys: 0, events: [], webhooks: [] });
    this.#byName.add(repoId, number);
    return number;
  }

  /** The repository to change; the change is written by the next flush. */
  change(number: number): Repository {
    const repository = this.#table.get(number);
    this.#table.set(number, repository);
    return repository;
  }

  flush(): number {
    return this.#table.flush() + this.#byName.flush();
  }

  discard(): void {
    this.#table.discard();
    this.#byName.discard();
    this.#numbers.clear();
    this.#names.clear();
  }
}
