import { evolveWebhook, type Webhook, webhookStream } from '../domain/webhook.js';
import { decodeWebhook } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { differences, type HistoryEntry } from './history.js';

/** An endpoint before an event of its stream, and the revision of that event. */
export type WebhookBefore = { readonly state: Webhook | undefined; readonly revision: number };

export const NO_WEBHOOK: WebhookBefore = { state: undefined, revision: 0 };

/** Every event of an endpoint, a deleted one too, oldest first; nothing if there is no such endpoint. */
export async function* webhookHistory(log: EventStore, webhookId: string): AsyncIterable<HistoryEntry> {
  let before = NO_WEBHOOK;
  for await (const recorded of log.readStream(webhookStream(webhookId))) {
    const step = tellWebhook(before, recorded);
    before = step.after;
    yield step.entry;
  }
}

/** One event of an endpoint's stream, and the endpoint after it. */
export function tellWebhook(
  { state, revision: next }: WebhookBefore,
  recorded: RecordedEvent,
): { readonly entry: HistoryEntry; readonly after: WebhookBefore } {
  const { id, revision, position, type } = recorded;
  const event = decodeWebhook(recorded, next);
  const after = evolveWebhook(state, event);
  const { webhookId } = event.data;
  const where = { id, type, at: event.occurredAt, apiKeyId: null, webhookId, revision, position };
  const replayed = event.type === 'WebhookReplayed' ? { after: { from: null, to: event.data.after } } : {};
  const changes = { ...differences(told(state), told(after)), ...replayed };
  return {
    entry:
      event.type === 'Unreadable'
        ? { ...where, actor: null, requestId: null, changes, unreadable: event.reason }
        : {
            ...where,
            actor: event.actor,
            requestId: event.requestId,
            changes,
            ...('reason' in event.data ? { reason: event.data.reason } : {}),
          },
    after: { state: after, revision: revision + 1 },
  };
}

/** What may be told of an endpoint: named one by one. */
const told = (webhook: Webhook | undefined) => ({
  repoId: webhook?.repoId ?? null,
  url: webhook?.url ?? null,
  types: webhook?.types?.join() ?? null,
  description: webhook?.description ?? null,
  status: webhook?.status ?? null,
  pausedBecause: webhook?.pausedBecause?.cause ?? null,
  secretVersion: webhook?.secretVersion ?? null,
  /** Until then the secret before this one signs too. */
  overlapEndsAt: webhook?.oldSecret?.goodUntil ?? null,
});
