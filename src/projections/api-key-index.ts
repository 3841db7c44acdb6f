import { type AiApiKey, evolveApiKey, secretHashesAt } from '../domain/ai-api-key.js';
import type { EpochMs } from '../domain/time.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { hasHash } from '../security/credentials.js';
import { type VerifyRequest, type VerifyResult, verifyCredential } from './verify.js';

/** A key in the index, without its sealed secret and idempotency records, which only a repeated request needs. */
export type ApiKeyEntry = {
  readonly key: AiApiKey;
  readonly revision: number;
  readonly createdPosition: Position;
  /** Position of the key's last event. */
  readonly position: Position;
};

/**
 * Folds one event of a key's stream into its entry; an event that the entry already holds changes nothing.
 * @throws RangeError as decodeApiKeyEvent
 */
export function evolveApiKeyEntry(entry: ApiKeyEntry | undefined, recorded: RecordedEvent): ApiKeyEntry {
  if (entry && recorded.revision <= entry.revision) return entry;
  return nextApiKeyEntry(entry, recorded, decodeApiKeyEvent(recorded, entry ? entry.revision + 1 : 0));
}

/** As `evolveApiKeyEntry`, for a decoded event that is the next one of its stream. */
export function nextApiKeyEntry(
  entry: ApiKeyEntry | undefined,
  { revision, position }: RecordedEvent,
  event: ReturnType<typeof decodeApiKeyEvent>,
): ApiKeyEntry {
  const key = evolveApiKey(entry?.key, event);
  return {
    key:
      key.sealedSecret === '' && key.idempotencyRecords.length === 0
        ? key
        : { ...key, sealedSecret: '', idempotencyRecords: NO_RECORDS },
    revision,
    createdPosition: entry?.createdPosition ?? position,
    position,
  };
}

const NO_RECORDS: AiApiKey['idempotencyRecords'] = [];

/** In-memory index of every key in the log; verifies credentials. */
export class ApiKeyIndex {
  /** By API key id. */
  readonly #entries = new Map<string, ApiKeyEntry>();
  readonly #byAccessKey = new Map<string, ApiKeyEntry>();
  /** Key ids of each repository, in creation order. */
  readonly #idsByRepo = new Map<string, string[]>();
  #quarantined = 0;

  /** Folds one event in. @returns the key's entry after it */
  apply(recorded: RecordedEvent): ApiKeyEntry {
    const before = this.#entries.get(apiKeyIdOf(recorded.stream) ?? '');
    const entry = evolveApiKeyEntry(before, recorded);
    this.#entries.set(entry.key.apiKeyId, entry);
    this.#byAccessKey.set(entry.key.accessKey, entry);
    if (!before) this.#listId(entry.key);
    this.#quarantined += Number(isQuarantined(entry)) - Number(isQuarantined(before));
    return entry;
  }

  /** Verifies a credential against the events that the index holds. */
  verify(request: VerifyRequest, now: EpochMs): VerifyResult<AiApiKey> {
    return verifyCredential(this.#byAccessKey.get(request.accessKey)?.key, request, now);
  }

  /** The key that a valid secret belongs to, whatever its status; undefined if there is none. */
  findBySecret(accessKey: string, secret: string, now: EpochMs): AiApiKey | undefined {
    const key = this.#byAccessKey.get(accessKey)?.key;
    return key && hasHash(secret, secretHashesAt(key, now)) ? key : undefined;
  }

  /** Keys of a repository, deleted ones too, newest first; with `before`, those created before that position. */
  *keysOf(repoId: string, before?: Position): Generator<ApiKeyEntry> {
    const ids = this.#idsByRepo.get(repoId) ?? [];
    const entryAt = (i: number) => this.#entries.get(ids[i] ?? '');
    let [low, high] = [0, ids.length];
    while (before !== undefined && low < high) {
      const middle = (low + high) >> 1;
      const entry = entryAt(middle);
      if (entry && entry.createdPosition < before) low = middle + 1;
      else high = middle;
    }
    for (let i = high - 1; i >= 0; i--) {
      const entry = entryAt(i);
      if (entry) yield entry;
    }
  }

  entryOf(apiKeyId: string): ApiKeyEntry | undefined {
    return this.#entries.get(apiKeyId);
  }

  entries(): Iterable<ApiKeyEntry> {
    return this.#entries.values();
  }

  #listId({ repoId, apiKeyId }: AiApiKey): void {
    const ids = this.#idsByRepo.get(repoId);
    if (ids) ids.push(apiKeyId);
    else this.#idsByRepo.set(repoId, [apiKeyId]);
  }

  /** Number of keys whose history cannot be decoded or folded. */
  get quarantined(): number {
    return this.#quarantined;
  }
}

const isQuarantined = (entry: ApiKeyEntry | undefined): boolean => entry?.key.status === 'unavailable';
