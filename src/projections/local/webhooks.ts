import type { RecordedEvent } from '../../event-store/event-store.js';
import { evolveWebhookEntry, type WebhookEntry } from '../webhook-entry.js';
import { HashIndex } from './hash-index.js';
import type { Meta } from './meta.js';
import type { ProjectionsDb } from './projections-db.js';
import { jsonCodec, RecordTable } from './records.js';
import type { Repositories } from './repositories.js';

/** Every webhook of the log, by id and by repository. Those that are not deleted are also in memory: they are few. */
export class Webhooks {
  readonly #meta: () => Meta;
  readonly #repositories: Repositories;
  readonly #table: RecordTable<WebhookEntry>;
  readonly #byId: HashIndex;
  readonly #existing = new Map<string, WebhookEntry>();
  #changed = new Map<string, WebhookEntry>();

  constructor(db: ProjectionsDb, meta: () => Meta, repositories: Repositories) {
    this.#meta = meta;
    this.#repositories = repositories;
    this.#table = new RecordTable(db, 'webhooks', jsonCodec<WebhookEntry>());
    this.#byId = new HashIndex(db, 'webhooks_by_id', {
      get: () => meta().webhooks,
      set: (webhooks) => {
        meta().webhooks = webhooks;
      },
    });
  }

  /** Reads those that are not deleted into memory. @throws KeyledgerError PROJECTIONS_DAMAGED */
  load(): void {
    for (const entry of this.#table.range(0, this.#meta().webhooks)) this.#keep(entry);
  }

  /** A webhook, also after its deletion. @throws KeyledgerError PROJECTIONS_DAMAGED */
  get(webhookId: string): WebhookEntry | undefined {
    return this.#changed.get(webhookId) ?? this.#existing.get(webhookId) ?? this.#find(webhookId)?.entry;
  }

  /**
   * The webhooks of a repository that are not deleted, in order of registration.
   * @throws KeyledgerError PROJECTIONS_DAMAGED
   */
  ofRepository(repoId: string): WebhookEntry[] {
    const repository = this.#repositories.find(repoId);
    if (repository === undefined) return [];
    return this.#repositories.get(repository).webhooks.map((number) => this.#table.get(number));
  }

  /** All that are not deleted. */
  existing(): Iterable<WebhookEntry> {
    return this.#existing.values();
  }

  /** Folds an event of a webhook's stream. @returns the webhook's entry after it */
  fold(recorded: RecordedEvent, webhookId: string): WebhookEntry {
    const found = this.#find(webhookId);
    const entry = withoutSecrets(evolveWebhookEntry(found?.entry, recorded));
    const { repoId, status } = entry.webhook;
    const number = found?.number ?? this.#meta().webhooks;
    const repository = this.#repositories.change(this.#repositories.findOrAdd(repoId));
    if (!found) {
      this.#byId.add(webhookId, number);
      repository.webhooks.push(number);
    }
    if (status === 'deleted') repository.webhooks = repository.webhooks.filter((other) => other !== number);
    this.#table.set(number, entry);
    this.#changed.set(webhookId, entry);
    return entry;
  }

  flush(): number {
    return this.#table.flush() + this.#byId.flush();
  }

  /** The flushed changes are committed. */
  committed(): void {
    for (const entry of this.#changed.values()) this.#keep(entry);
    this.#changed = new Map();
  }

  discard(): void {
    this.#table.discard();
    this.#byId.discard();
    this.#changed = new Map();
  }

  #keep(entry: WebhookEntry): void {
    const { webhookId, status } = entry.webhook;
    if (status === 'deleted') this.#existing.delete(webhookId);
    else this.#existing.set(webhookId, entry);
  }

  #find(webhookId: string): { readonly number: number; readonly entry: WebhookEntry } | undefined {
    for (const number of this.#byId.find(webhookId)) {
      const entry = this.#table.get(number);
      if (entry.webhook.webhookId === webhookId) return { number, entry };
    }
    return undefined;
  }
}

/** Sealed secrets stay in the log, which a delivery reads them from. */
const withoutSecrets = (entry: WebhookEntry): WebhookEntry => ({
  ...entry,
  webhook: {
    ...entry.webhook,
    secretHash: '',
    sealedSecret: '',
    oldSecret: entry.webhook.oldSecret && { ...entry.webhook.oldSecret, secretHash: '', sealedSecret: '' },
    idempotencyRecords: [],
  },
});
