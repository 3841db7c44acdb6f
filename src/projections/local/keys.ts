import type { AiApiKey } from '../../domain/ai-api-key.js';
import type { RecordedEvent } from '../../event-store/event-store.js';
import { makePosition, type Position, placeOf } from '../../event-store/position.js';
import { type ApiKeyEntry, evolveApiKeyEntry, NO_RECORDS } from '../api-key-entry.js';
import { HashIndex } from './hash-index.js';
import type { Meta } from './meta.js';
import { firstWhere } from './number-sequences.js';
import type { ProjectionsDb } from './projections-db.js';
import { RecordTable } from './records.js';
import type { Repositories } from './repositories.js';

/** The keys of a repository are numbered from its number times this, so that they lie side by side. */
const MAX_KEYS_OF_REPOSITORY = 2 ** 27;

/** Every key of the log, by id, access key and repository. */
export class Keys {
  readonly #meta: () => Meta;
  readonly #repositories: Repositories;
  readonly #table: RecordTable<ApiKeyEntry>;
  readonly #byId: HashIndex;
  readonly #byAccessKey: HashIndex;

  constructor(db: ProjectionsDb, meta: () => Meta, repositories: Repositories) {
    this.#meta = meta;
    this.#repositories = repositories;
    this.#table = new RecordTable(db, 'keys', {
      encode: encodeEntry,
      decode: (body, id) =>
        decodeEntry(body, repositories.nameOf(Math.floor(id / MAX_KEYS_OF_REPOSITORY)), meta().logId),
    });
    this.#byId = new HashIndex(db, 'keys_by_id', {
      get: () => meta().keys,
      set: (keys) => {
        meta().keys = keys;
      },
    });
    this.#byAccessKey = new HashIndex(db, 'keys_by_access_key', {
      get: () => meta().accessKeys,
      set: (keys) => {
        meta().accessKeys = keys;
      },
    });
  }

  /** @throws KeyledgerError PROJECTIONS_DAMAGED; so do all reads below */
  get(apiKeyId: string): ApiKeyEntry | undefined {
    return this.#findById(apiKeyId)?.entry;
  }

  /** The key with an access key; of several, which no release makes, the last one created. */
  getByAccessKey(accessKey: string): ApiKeyEntry | undefined {
    for (const number of this.#byAccessKey.find(accessKey)) {
      const entry = this.#table.get(number);
      if (entry.key.accessKey === accessKey) return entry;
    }
    return undefined;
  }

  /** Keys of a repository, deleted ones too, newest first; with `before`, those created before that position. */
  *ofRepository(repoId: string, before?: Position): Generator<ApiKeyEntry> {
    const repository = this.#repositories.find(repoId);
    if (repository === undefined) return;
    const first = repository * MAX_KEYS_OF_REPOSITORY;
    let end = first + this.#repositories.get(repository).keys;
    if (before !== undefined)
      end = firstWhere(first, end, (number) => this.#table.get(number).createdPosition >= before);
    yield* this.#table.rangeDown(first, end);
  }

  /** Folds an event of a key's stream. @returns the key's entry after it, and before */
  fold(recorded: RecordedEvent, apiKeyId: string): { readonly entry: ApiKeyEntry; readonly before?: ApiKeyEntry } {
    const found = this.#findById(apiKeyId);
    const entry = evolveApiKeyEntry(found?.entry, recorded);
    this.#table.set(found?.number ?? this.#add(entry), entry);
    this.#meta().quarantined += Number(isQuarantined(entry)) - Number(isQuarantined(found?.entry));
    return found ? { entry, before: found.entry } : { entry };
  }

  flush(): number {
    return this.#table.flush() + this.#byId.flush() + this.#byAccessKey.flush();
  }

  discard(): void {
    this.#table.discard();
    this.#byId.discard();
    this.#byAccessKey.discard();
  }

  #findById(apiKeyId: string): { readonly number: number; readonly entry: ApiKeyEntry } | undefined {
    for (const number of this.#byId.find(apiKeyId)) {
      const entry = this.#table.get(number);
      if (entry.key.apiKeyId === apiKeyId) return { number, entry };
    }
    return undefined;
  }

  /** @returns the number of a new key */
  #add({ key: { apiKeyId, accessKey, repoId } }: ApiKeyEntry): number {
    const repository = this.#repositories.findOrAdd(repoId);
    const number = repository * MAX_KEYS_OF_REPOSITORY + this.#repositories.change(repository).keys++;
    this.#byId.add(apiKeyId, number);
    if (accessKey !== '') this.#byAccessKey.add(accessKey, number);
    return number;
  }
}

const isQuarantined = (entry: ApiKeyEntry | undefined): boolean => entry?.key.status === 'unavailable';

type Stored = [
  apiKeyId: string,
  accessKey: string,
  name: string,
  aiType: AiApiKey['aiType'],
  status: AiApiKey['status'],
  createdAt: string,
  deletedAt: string | null,
  expiresAt: string | null,
  secretVersion: number,
  secretReplayable: boolean,
  secretHash: string,
  oldSecret: [hash: string, goodUntil: string] | null,
  revision: number,
  createdPlace: string,
  place: string,
];

function encodeEntry({ key, revision, createdPosition, position }: ApiKeyEntry): string {
  const { oldSecret } = key;
  return JSON.stringify([
    key.apiKeyId,
    key.accessKey,
    key.name,
    key.aiType,
    key.status,
    key.createdAt,
    key.deletedAt,
    key.expiresAt,
    key.secretVersion,
    key.secretReplayable,
    key.secretHash,
    oldSecret && [oldSecret.hash, oldSecret.goodUntil],
    revision,
    placeOf(createdPosition),
    placeOf(position),
  ] satisfies Stored);
}

function decodeEntry(body: string, repoId: string, logId: string): ApiKeyEntry {
  const [
    apiKeyId,
    accessKey,
    name,
    aiType,
    status,
    createdAt,
    deletedAt,
    expiresAt,
    secretVersion,
    secretReplayable,
    secretHash,
    oldSecret,
    revision,
    createdPlace,
    place,
  ] = JSON.parse(body) as Stored;
  return {
    key: {
      apiKeyId,
      repoId,
      name,
      aiType,
      accessKey,
      secretHash,
      sealedSecret: '',
      expiresAt,
      status,
      createdAt,
      deletedAt,
      secretVersion,
      secretReplayable,
      oldSecret: oldSecret && { hash: oldSecret[0], goodUntil: oldSecret[1] },
      idempotencyRecords: NO_RECORDS,
    },
    revision,
    createdPosition: makePosition(logId, createdPlace),
    position: makePosition(logId, place),
  };
}
