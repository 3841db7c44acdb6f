import { type AiApiKey, apiKeyIdOf, evolveApiKey, secretHashesAt } from '../domain/ai-api-key.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { hasHash } from '../security/credentials.js';
import { type VerifyRequest, type VerifyResult, verifyCredential } from './verify.js';

/** A key as the index knows it: never its sealed secret, which only a repeated request needs. */
export type ApiKeyEntry = {
  readonly key: AiApiKey;
  readonly revision: number;
  readonly createdPosition: Position;
  /** Of the key's last event. */
  readonly position: Position;
};

/**
 * The fold: a key's entry after one more event of its stream. An event that the entry already holds
 * changes nothing.
 * @throws RangeError see decode
 */
export function evolveApiKeyEntry(entry: ApiKeyEntry | undefined, recorded: RecordedEvent): ApiKeyEntry {
  if (entry && recorded.revision <= entry.revision) return entry;
  return nextApiKeyEntry(entry, recorded, decodeApiKeyEvent(recorded, entry ? entry.revision + 1 : 0));
}

/** The same for an event that is decoded already, and comes next in its stream. */
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
        : { ...key, sealedSecret: '', idempotencyRecords: NOTHING },
    revision,
    createdPosition: entry?.createdPosition ?? position,
    position,
  };
}

const NOTHING: AiApiKey['idempotencyRecords'] = [];

/** Every key of the log, in memory: decides whether a credential is good. */
export class ApiKeyIndex {
  /** By the key's id. */
  readonly #entries = new Map<string, ApiKeyEntry>();
  readonly #byAccessKey = new Map<string, ApiKeyEntry>();
  /** Ids of the keys of each repository, in the order of their creation. */
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

  /**
   * Is this credential good, as far as the events that the index has seen?
   * @param now milliseconds since 1970
   */
  verify(request: VerifyRequest, now: number): VerifyResult<AiApiKey> {
    return verifyCredential(this.#byAccessKey.get(request.accessKey)?.key, request, now);
  }

  /**
   * The key whose good secret this is, whatever else may keep it from being valid.
   * @param now milliseconds since 1970
   */
  findBySecret(accessKey: string, secret: string, now: number): AiApiKey | undefined {
    const key = this.#byAccessKey.get(accessKey)?.key;
    return key && hasHash(secret, secretHashesAt(key, now)) ? key : undefined;
  }

  /** The keys of a repository, deleted ones too, newest first; those that were created before a position, if there is one. */
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

  /** How many keys have a history that could not be decoded or folded. */
  get quarantined(): number {
    return this.#quarantined;
  }
}

const isQuarantined = (entry: ApiKeyEntry | undefined): boolean => entry?.key.status === 'unavailable';
