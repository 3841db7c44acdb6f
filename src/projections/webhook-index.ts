import { evolveWebhook, type Webhook, webhookIdOf } from '../domain/webhook.js';
import { decodeWebhookEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

export type WebhookEntry = {
  readonly webhook: Webhook;
  readonly revision: number;
  /** Of its last event. */
  readonly position: Position;
  /** It is told what comes behind it; null: from the log's first event on. */
  readonly from: Position | null;
  /** Revision of the event that set it back there; -1 if none did. */
  readonly replay: number;
};

/** The fold: an endpoint's entry after one more event of its stream. */
export function evolveWebhookEntry(before: WebhookEntry | undefined, recorded: RecordedEvent): WebhookEntry {
  const { position, revision } = recorded;
  if (before && revision <= before.revision) return before;
  const event = decodeWebhookEvent(recorded, before ? before.revision + 1 : 0);
  const webhook = evolveWebhook(before?.webhook, event);
  const { from, replay } = before ?? { from: position, replay: -1 };
  const entry = { webhook, revision, position, from, replay };
  const slept = before?.webhook.pausedBecause?.cause === 'imported';
  if (slept && webhook.status === 'active' && replay < 0) return { ...entry, from: position };
  const isReplay = event.type === 'WebhookReplayed' && webhook.status !== 'unavailable' && !event.imported;
  return isReplay ? { ...entry, from: event.data.after as Position | null, replay: revision } : entry;
}

/** Every endpoint of the log, in memory. */
export class WebhookIndex {
  readonly #entries = new Map<string, WebhookEntry>();
  readonly #idsByRepo = new Map<string, string[]>();

  /** Folds one event in. @returns the endpoint's entry after it; undefined if the stream is that of none */
  apply(recorded: RecordedEvent): WebhookEntry | undefined {
    const id = webhookIdOf(recorded.stream);
    if (id === undefined) return undefined;
    const before = this.#entries.get(id);
    const entry = evolveWebhookEntry(before, recorded);
    this.#entries.set(id, entry);
    if (!before) {
      const { repoId } = entry.webhook;
      const ids = this.#idsByRepo.get(repoId);
      if (ids) ids.push(id);
      else this.#idsByRepo.set(repoId, [id]);
    }
    return entry;
  }

  entryOf(webhookId: string): WebhookEntry | undefined {
    return this.#entries.get(webhookId);
  }

  /** Those of a repository that are not deleted, in the order of their registration. */
  ofRepository(repoId: string): WebhookEntry[] {
    const ids = this.#idsByRepo.get(repoId) ?? [];
    return ids.flatMap((id) => {
      const entry = this.#entries.get(id);
      return entry && entry.webhook.status !== 'deleted' ? [entry] : [];
    });
  }

  entries(): Iterable<WebhookEntry> {
    return this.#entries.values();
  }
}
