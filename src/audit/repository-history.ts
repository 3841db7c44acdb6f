import { type AiApiKey, isApiKeyStream } from '../domain/ai-api-key.js';
import { type Webhook, webhookIdOf } from '../domain/webhook.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { RangeBound } from '../projections/event-index.js';
import { type Before, type HistoryEntry, NOTHING_YET } from './describe-event.js';
import { select } from './event-range.js';
import { tellAccess, tellKey, tellWebhook } from './history.js';

/** Which events are meant; all where nothing is said. */
export type RepositoryQuery = {
  readonly from?: RangeBound | undefined;
  readonly to?: RangeBound | undefined;
  readonly types?: readonly string[] | undefined;
  /** Of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
};

/**
 * The events of a repository, oldest first, from one reading of the log up to an end. What an event changed
 * is told by those before it, so those are read too.
 */
export async function* repositoryHistory(
  log: EventStore,
  repoId: string,
  { from, to, types, subject, apiKeyId }: RepositoryQuery,
  end: Position,
): AsyncIterable<HistoryEntry> {
  const keys = new Map<string, Before<AiApiKey>>();
  const webhooks = new Map<string, Before<Webhook>>();
  for await (const recorded of select(log, { repoId, to }, end)) {
    let entry: HistoryEntry;
    if (isApiKeyStream(recorded.stream)) {
      const told = tellKey(keys.get(recorded.stream) ?? NOTHING_YET, recorded);
      keys.set(recorded.stream, told.after);
      entry = told.entry;
    } else if (webhookIdOf(recorded.stream) !== undefined) {
      const told = tellWebhook(webhooks.get(recorded.stream) ?? NOTHING_YET, recorded);
      webhooks.set(recorded.stream, told.after);
      entry = told.entry;
    } else entry = tellAccess(recorded);
    const isMeant =
      (from === undefined ||
        ('time' in from ? Date.parse(entry.at) >= from.time : entry.position > from.position)) &&
      (types === undefined || types.includes(entry.type)) &&
      (subject === undefined || entry.actor?.subject === subject) &&
      (apiKeyId === undefined || entry.apiKeyId === apiKeyId);
    if (isMeant) yield entry;
  }
}
