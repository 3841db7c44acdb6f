import { apiKeyIdOf } from '../domain/ai-api-key.js';
import { webhookIdOf } from '../domain/webhook.js';
import type { EventStore } from '../event-store/event-store.js';
import type { EventRef } from '../projections/event-index.js';
import type { HistoryEntry } from './describe-event.js';
import { history, tellAccess, webhookHistory } from './history.js';

/** Streams that are read at the same time. */
const AT_ONCE = 32;

/**
 * The events that lines of the journal name, in their order, read from the log: each stream once.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function entriesOf(log: EventStore, lines: readonly EventRef[]): Promise<HistoryEntry[]> {
  const streams = [...new Set(lines.map(({ stream }) => stream))];
  const found = new Map<string, HistoryEntry>();
  for (let from = 0; from < streams.length; from += AT_ONCE) {
    await Promise.all(
      streams.slice(from, from + AT_ONCE).map(async (stream) => {
        for await (const entry of entriesIn(log, stream)) found.set(`${stream} ${entry.revision}`, entry);
      }),
    );
  }
  return lines.flatMap(({ stream, revision }) => found.get(`${stream} ${revision}`) ?? []);
}

async function* entriesIn(log: EventStore, stream: string): AsyncIterable<HistoryEntry> {
  const apiKeyId = apiKeyIdOf(stream);
  const webhookId = webhookIdOf(stream);
  if (apiKeyId !== undefined) yield* history(log, apiKeyId);
  else if (webhookId !== undefined) yield* webhookHistory(log, webhookId);
  else for await (const recorded of log.readStream(stream)) yield tellAccess(recorded);
}
