import { type AiApiKey, evolveApiKey } from '../domain/ai-api-key.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

/** A key in the projections, without its sealed secret and idempotency records, which only a repeated request needs. */
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

export const NO_RECORDS: AiApiKey['idempotencyRecords'] = [];
