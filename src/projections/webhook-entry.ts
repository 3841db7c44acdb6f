import { evolveWebhook, type Webhook } from '../domain/webhook.js';
import { decodeWebhookEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

export type WebhookEntry = {
  readonly webhook: Webhook;
  readonly revision: number;
  /** Position of its last event. */
  readonly position: Position;
  /** The endpoint receives the events after this position; null: from the log's first event on. */
  readonly from: Position | null;
  /** Revision of the WebhookReplayed that set `from`; -1 if none did. */
  readonly replay: number;
};

/** Folds one event of a webhook's stream into its entry; one that the entry already holds changes nothing. */
export function evolveWebhookEntry(before: WebhookEntry | undefined, recorded: RecordedEvent): WebhookEntry {
  const { position, revision } = recorded;
  if (before && revision <= before.revision) return before;
  const event = decodeWebhookEvent(recorded, before ? before.revision + 1 : 0);
  const webhook = evolveWebhook(before?.webhook, event);
  const { from, replay } = before ?? { from: position, replay: -1 };
  const entry = { webhook, revision, position, from, replay };
  // A copy delivers only what follows its first resume, unless a replay has named another start.
  const wasImported = before?.webhook.pausedBecause?.cause === 'imported';
  if (wasImported && webhook.status === 'active' && replay < 0) return { ...entry, from: position };
  const isReplay = event.type === 'WebhookReplayed' && webhook.status !== 'unavailable' && !event.imported;
  return isReplay ? { ...entry, from: event.data.after as Position | null, replay: revision } : entry;
}
