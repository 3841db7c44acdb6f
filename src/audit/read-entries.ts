import { apiKeyIdOf } from '../domain/ai-api-key.js';
import { webhookIdOf } from '../domain/webhook.js';
import type { EventStore } from '../event-store/event-store.js';
import type { EventRef } from '../projections/event-index.js';
import type { HistoryEntry } from './describe-event.js';
import { describeAuditAccess, history, webhookHistory } from './history.js';

/** Streams that are read at the same time. */
const CONCURRENT_READS = 32;

/**
 * The events that lines of the journal name, in their order, read from the log: each stream once.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function readEntries(log: EventStore, refs: readonly EventRef[]): Promise<HistoryEntry[]> {
  const streams = [...new Set(refs.map(({ stream }) => stream))];
  const found = new Map<string, HistoryEntry>();
  for (let from = 0; from < streams.length; from += CONCURRENT_READS) {
    await Promise.all(
      streams.slice(from, from + CONCURRENT_READS).map(async (stream) => {
        for await (const entry of entriesOfStream(log, stream))
          found.set(`${stream} ${entry.revision}`, entry);
      }),
    );
  }
  return refs.flatMap(({ stream, revision }) => found.get(`${stream} ${revision}`) ?? []);
}

async function* entriesOfStream(log: EventStore, stream: string): AsyncIterable<HistoryEntry> {
  const apiKeyId = apiKeyIdOf(stream);
  const webhookId = webhookIdOf(stream);
  if (apiKeyId !== undefined) yield* history(log, apiKeyId);
  else if (webhookId !== undefined) yield* webhookHistory(log, webhookId);
  else for await (const recorded of log.readStream(stream)) yield describeAuditAccess(recorded);
}
