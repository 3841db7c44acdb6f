import type { AiApiKey } from '../../../src/domain/ai-api-key.js';
import type { EpochMs } from '../../../src/domain/time.js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import type { Position } from '../../../src/event-store/position.js';
import { apiKeyIdOf } from '../../../src/event-store/streams.js';
import { type ApiKeyEntry, evolveApiKeyEntry } from '../../../src/projections/api-key-entry.js';
import { type VerifyRequest, type VerifyResult, verifyCredential } from '../../../src/projections/verify.js';

/** The keys of a log in memory: what the projections are compared with. */
export class KeyFold {
  readonly #entries = new Map<string, ApiKeyEntry>();

  /** @returns the key's entry after the event */
  apply(recorded: RecordedEvent): ApiKeyEntry {
    const entry = evolveApiKeyEntry(this.#entries.get(apiKeyIdOf(recorded.stream) ?? ''), recorded);
    this.#entries.set(entry.key.apiKeyId, entry);
    return entry;
  }

  verify(request: VerifyRequest, now: EpochMs): VerifyResult<AiApiKey> {
    const entry = [...this.#entries.values()].find(({ key }) => key.accessKey === request.accessKey);
    return verifyCredential(entry?.key, request, now);
  }

  /** Newest first; with `before`, those created before that position. */
  keysOf(repoId: string, before?: Position): ApiKeyEntry[] {
    return [...this.#entries.values()]
      .filter(({ key, createdPosition }) => key.repoId === repoId && (before === undefined || createdPosition < before))
      .reverse();
  }

  entryOf(apiKeyId: string): ApiKeyEntry | undefined {
    return this.#entries.get(apiKeyId);
  }

  entries(): Iterable<ApiKeyEntry> {
    return this.#entries.values();
  }

  get quarantined(): number {
    return [...this.#entries.values()].filter(({ key }) => key.status === 'unavailable').length;
  }
}
