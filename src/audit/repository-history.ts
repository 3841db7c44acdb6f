import { type AiApiKey, isApiKeyStream } from '../domain/ai-api-key.js';
import { type Webhook, webhookIdOf } from '../domain/webhook.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { RangeBound } from '../projections/event-index.js';
import { type FoldState, type HistoryEntry, INITIAL_FOLD } from './describe-event.js';
import { eventsInRange } from './event-range.js';
import { describeApiKeyEvent, describeAuditAccess, describeWebhookEvent } from './history.js';

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
  const keys = new Map<string, FoldState<AiApiKey>>();
  const webhooks = new Map<string, FoldState<Webhook>>();
  for await (const recorded of eventsInRange(log, { repoId, to }, end)) {
    let entry: HistoryEntry;
    if (isApiKeyStream(recorded.stream)) {
      const described = describeApiKeyEvent(keys.get(recorded.stream) ?? INITIAL_FOLD, recorded);
      keys.set(recorded.stream, described.after);
      entry = described.entry;
    } else if (webhookIdOf(recorded.stream) !== undefined) {
      const described = describeWebhookEvent(webhooks.get(recorded.stream) ?? INITIAL_FOLD, recorded);
      webhooks.set(recorded.stream, described.after);
      entry = described.entry;
    } else entry = describeAuditAccess(recorded);
    const matches =
      (from === undefined ||
        ('time' in from ? Date.parse(entry.at) >= from.time : entry.position > from.position)) &&
      (types === undefined || types.includes(entry.type)) &&
      (subject === undefined || entry.actor?.subject === subject) &&
      (apiKeyId === undefined || entry.apiKeyId === apiKeyId);
    if (matches) yield entry;
  }
}
