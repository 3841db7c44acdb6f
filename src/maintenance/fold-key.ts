import { apiKeyStream } from '../domain/ai-api-key.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { type ApiKeyEntry, nextApiKeyEntry } from '../projections/api-key-entry.js';

/** A key after one of its events. */
export type FoldStep = {
  readonly recorded: RecordedEvent;
  readonly entry: ApiKeyEntry;
  /** Reason why the event cannot be decoded or folded; the first one puts the key in quarantine. */
  readonly fault: string | undefined;
};

/** History of a key in the log, one step per event; empty if no such key exists. */
export async function* foldKey(log: EventStore, apiKeyId: string): AsyncIterable<FoldStep> {
  let entry: ApiKeyEntry | undefined;
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    const step = foldStep(entry, recorded);
    entry = step.entry;
    yield step;
  }
}

/**
 * Folds one event into a key.
 * @throws RangeError see decode
 */
export function foldStep(before: ApiKeyEntry | undefined, recorded: RecordedEvent): FoldStep {
  const event = decodeApiKeyEvent(recorded, before ? before.revision + 1 : 0);
  const entry = nextApiKeyEntry(before, recorded, event);
  if (event.type === 'Unreadable') return { recorded, entry, fault: event.reason };
  const breaks = entry.key.status === 'unavailable' && before?.key.status !== 'unavailable';
  const fault = breaks ? `${event.type} is impossible at this point of the stream` : undefined;
  return { recorded, entry, fault };
}
