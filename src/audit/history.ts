import { type AiApiKey, apiKeyStream, evolveApiKey } from '../domain/ai-api-key.js';
import { evolveWebhook, type Webhook, webhookStream } from '../domain/webhook.js';
import { decodeApiKeyEvent, decodeAuditAccess, decodeWebhookEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { eventDescriber, type FoldState, type HistoryEntry, INITIAL_FOLD } from './describe-event.js';

/** Every event of a key, a deleted one too, oldest first; nothing if there is no such key. */
export async function* history(log: EventStore, apiKeyId: string): AsyncIterable<HistoryEntry> {
  let fold: FoldState<AiApiKey> = INITIAL_FOLD;
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    const described = describeApiKeyEvent(fold, recorded);
    fold = described.after;
    yield described.entry;
  }
}

/** The same of a webhook. */
export async function* webhookHistory(log: EventStore, webhookId: string): AsyncIterable<HistoryEntry> {
  let fold: FoldState<Webhook> = INITIAL_FOLD;
  for await (const recorded of log.readStream(webhookStream(webhookId))) {
    const described = describeWebhookEvent(fold, recorded);
    fold = described.after;
    yield described.entry;
  }
}

/** One event of a key's stream, and the key after it. */
export const describeApiKeyEvent = eventDescriber({
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
    /** Until then the secret before this one is good too. */
    overlapEndsAt: key?.oldSecret?.goodUntil ?? null,
  }),
});

/** One event of a webhook's stream, and the webhook after it. */
export const describeWebhookEvent = eventDescriber({
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
    /** Until then the secret before this one signs too. */
    overlapEndsAt: webhook?.oldSecret?.goodUntil ?? null,
    /** What a replay set it back to. */
    replayedAfter: webhook?.replayedAfter ?? null,
  }),
});

/** Who looked, as the log has it. */
export function describeAuditAccess(recorded: RecordedEvent): HistoryEntry {
  const { id, revision, position, type, recordedAt } = recorded;
  const event = decodeAuditAccess(recorded);
  const where = { id, type, revision, position, changes: {} };
  if (typeof event === 'string') {
    const unknown = { at: recordedAt, actor: null, requestId: null, apiKeyId: null };
    return { ...where, ...unknown, unreadable: event };
  }
  const { apiKeyId, access, query, from, verified } = event.data;
  const { occurredAt: at, actor, requestId } = event;
  return { ...where, at, actor, requestId, apiKeyId, accessed: { access, query, from, verified } };
}
