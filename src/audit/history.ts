import { type AiApiKey, apiKeyStream, evolveApiKey } from '../domain/ai-api-key.js';
import { evolveWebhook, type Webhook, webhookStream } from '../domain/webhook.js';
import { decodeApiKeyEvent, decodeAuditAccess, decodeWebhookEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { classifyStream } from '../event-store/streams.js';
import { eventDescriber, type FoldState, type HistoryEntry, INITIAL_FOLD } from './describe-event.js';

/** Every event of an API key, oldest first, also after its deletion; none if the log has no such key. */
export const history = (log: EventStore, apiKeyId: string): AsyncIterable<HistoryEntry> =>
  streamHistory(log, apiKeyStream(apiKeyId));

/** Every event of a webhook, oldest first, also after its deletion; none if the log has no such webhook. */
export const webhookHistory = (log: EventStore, webhookId: string): AsyncIterable<HistoryEntry> =>
  streamHistory(log, webhookStream(webhookId));

/** Every event of a stream of any kind, oldest first. */
export async function* streamHistory(log: EventStore, stream: string): AsyncIterable<HistoryEntry> {
  let fold: FoldState<unknown> = INITIAL_FOLD;
  for await (const recorded of log.readStream(stream)) {
    const { entry, after } = describeNext(fold, recorded);
    fold = after;
    yield entry;
  }
}

/**
 * Describes the next event of a stream of any kind.
 * @param fold of the events before it in its stream
 */
export function describeNext(
  fold: FoldState<unknown>,
  recorded: RecordedEvent,
): { readonly entry: HistoryEntry; readonly after: FoldState<unknown> } {
  switch (classifyStream(recorded.stream)?.kind) {
    case 'api-key':
      return describeApiKeyEvent(fold as FoldState<AiApiKey>, recorded);
    case 'webhook':
      return describeWebhookEvent(fold as FoldState<Webhook>, recorded);
    default:
      return { entry: describeAuditAccess(recorded), after: fold };
  }
}

/** One event of a key's stream, and the key after it. */
const describeApiKeyEvent = eventDescriber({
  decode: decodeApiKeyEvent,
  evolve: evolveApiKey,
  about: ({ data: { apiKeyId } }) => ({ apiKeyId }),
  auditFields: (key: AiApiKey | undefined) => ({
    repoId: key?.repoId ?? null,
    name: key?.name ?? null,
    aiType: key?.aiType ?? null,
    key: key?.accessKey ?? null,
    status: key?.status ?? null,
    expiresAt: key?.expiresAt ?? null,
    secretVersion: key?.secretVersion ?? null,
    /** The previous secret stays valid until then. */
    overlapEndsAt: key?.oldSecret?.goodUntil ?? null,
  }),
});

/** One event of a webhook's stream, and the webhook after it. */
const describeWebhookEvent = eventDescriber({
  decode: decodeWebhookEvent,
  evolve: evolveWebhook,
  about: ({ data: { webhookId } }) => ({ apiKeyId: null, webhookId }),
  auditFields: (webhook: Webhook | undefined) => ({
    repoId: webhook?.repoId ?? null,
    url: webhook?.url ?? null,
    types: webhook?.types?.join() ?? null,
    description: webhook?.description ?? null,
    status: webhook?.status ?? null,
    pausedBecause: webhook?.pausedBecause?.cause ?? null,
    secretVersion: webhook?.secretVersion ?? null,
    /** The previous secret also signs until then. */
    overlapEndsAt: webhook?.oldSecret?.goodUntil ?? null,
    /** Position to which a replay reset the endpoint. */
    replayedAfter: webhook?.replayedAfter ?? null,
  }),
});

function describeAuditAccess(recorded: RecordedEvent): HistoryEntry {
  const { id, revision, position, type } = recorded;
  const event = decodeAuditAccess(recorded);
  const where = { id, type, revision, position, changes: {}, at: event.occurredAt };
  if (event.type === 'Unreadable') {
    return { ...where, actor: null, requestId: null, apiKeyId: null, unreadable: event.reason };
  }
  const { actor, requestId, data } = event;
  const { apiKeyId, access, query, from, verified } = data;
  return { ...where, actor, requestId, apiKeyId, accessed: { access, query, from, verified } };
}
