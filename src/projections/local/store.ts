import type { DatabaseSyncInstance } from '@photostructure/sqlite';
import { LRUCache } from 'lru-cache';
import type { RecordedEvent } from '../../event-store/event-store.js';
import { peekEvent } from '../../event-store/peek-event.js';
import type { Position } from '../../event-store/position.js';
import { classifyStream } from '../../event-store/streams.js';
import type { ApiKeyEntry } from '../api-key-entry.js';
import type { Checkpoint } from '../read-model.js';
import { Events } from './events.js';
import { Keys } from './keys.js';
import type { Meta } from './meta.js';
import { type DamageGuard, NO_GUARD, ProjectionsDb } from './projections-db.js';
import { jsonCodec, RecordTable } from './records.js';
import { Repositories } from './repositories.js';
import { Webhooks } from './webhooks.js';

/** Keys in memory for verification, about a kilobyte each. */
const MAX_HOT_KEYS = 10_000;

/** What an event changed. */
export type Folded = {
  /** Of the key or webhook that the event is about; undefined if the event concerns no repository. */
  readonly repoId: string | undefined;
  readonly apiKey: ApiKeyEntry | undefined;
  /** The entry of the key before the event. */
  readonly apiKeyBefore: ApiKeyEntry | undefined;
  readonly webhookId: string | undefined;
};

const NO_KEY = { entry: undefined, before: undefined };

/**
 * The projections of one process in an open SQLite file: every key, every webhook, and where each event is. `fold` takes
 * events into memory, and `commit` writes what they changed, with the checkpoint, in one transaction.
 *
 * Every read checks what it reads and throws KeyledgerError PROJECTIONS_DAMAGED instead of answering from damage.
 */
export class ProjectionStore {
  readonly repositories: Repositories;
  readonly keys: Keys;
  readonly webhooks: Webhooks;
  readonly events: Events;
  readonly #db: ProjectionsDb;
  readonly #metaTable: RecordTable<Meta>;
  #meta: Meta;
  /** The meta record with the changes since the last commit. */
  #draft: Meta | undefined;
  readonly #hotKeys = new LRUCache<string, ApiKeyEntry>({ max: MAX_HOT_KEYS });
  #changedKeys: ApiKeyEntry[] = [];

  /** @throws KeyledgerError PROJECTIONS_DAMAGED */
  constructor(db: DatabaseSyncInstance, guard: DamageGuard = NO_GUARD) {
    const projections = new ProjectionsDb(db, guard);
    this.#db = projections;
    const meta = () => this.#draft ?? this.#meta;
    this.#metaTable = new RecordTable(projections, 'meta', jsonCodec<Meta>());
    this.#meta = this.#metaTable.get(0);
    this.repositories = new Repositories(projections, meta);
    this.keys = new Keys(projections, meta, this.repositories);
    this.webhooks = new Webhooks(projections, meta, this.repositories);
    this.events = new Events(projections, meta, this.repositories);
    this.webhooks.load();
  }

  /** What the last commit wrote. */
  get meta(): Readonly<Meta> {
    return this.#meta;
  }

  /** The last event that it holds; undefined before the log's first. */
  get checkpoint(): Checkpoint | undefined {
    return this.#meta.checkpoint ?? undefined;
  }

  get position(): Position | undefined {
    return this.checkpoint?.position;
  }

  /** The key with an access key, from memory if it was verified recently. */
  keyToVerify(accessKey: string): ApiKeyEntry | undefined {
    const hot = this.#hotKeys.get(accessKey);
    if (hot) return hot;
    const entry = this.keys.getByAccessKey(accessKey);
    // Only a key that exists is kept: invented ones evict nothing.
    if (entry) this.#hotKeys.set(accessKey, entry);
    return entry;
  }

  /** The repository of an event that it holds; undefined if the event concerns none. */
  repositoryIdOf(event: RecordedEvent): string | undefined {
    const ref = classifyStream(event.stream);
    switch (ref?.kind) {
      case 'api-key':
        return this.keys.get(ref.id)?.key.repoId || undefined;
      case 'webhook':
        return this.webhooks.get(ref.id)?.webhook.repoId || undefined;
      case 'audit-access': {
        const { repoId, apiKeyId } = peekEvent(event);
        return repoId ?? (apiKeyId === undefined ? undefined : this.keys.get(apiKeyId)?.key.repoId || undefined);
      }
      case undefined:
        return undefined;
    }
  }

  /**
   * Folds the next event of the log. Only a commit makes it visible, and until then all reads are in its transaction.
   * @throws Error of SQLite: the file is locked, or cannot be written
   */
  fold(event: RecordedEvent): Folded {
    this.#change();
    this.#db.beginWriting();
    const ref = classifyStream(event.stream);
    const { entry: apiKey, before: apiKeyBefore } = ref?.kind === 'api-key' ? this.keys.fold(event, ref.id) : NO_KEY;
    if (apiKey) this.#changedKeys.push(apiKey);
    if (ref?.kind === 'webhook') this.webhooks.fold(event, ref.id);
    const repoId = apiKey ? apiKey.key.repoId || undefined : this.repositoryIdOf(event);
    this.events.add(event, repoId);
    return { repoId, apiKey, apiKeyBefore, webhookId: ref?.kind === 'webhook' ? ref.id : undefined };
  }

  /** Counts events that were skipped, see classifyStream. */
  skipForeign(count: number): void {
    if (count > 0) this.#change().foreignEvents += count;
  }

  /** Changes what the meta record says of the file. */
  describe(change: Partial<Pick<Meta, 'inFile' | 'isOpen'>>): void {
    Object.assign(this.#change(), change);
  }

  /**
   * Writes what was folded since the last commit, all of it or nothing. After a failure all of it must be folded again.
   * @returns the number of records that it has written
   * @throws Error of SQLite: the disk is full, or the file cannot be written
   */
  commit(): number {
    const draft = this.#draft;
    if (!draft) return 0;
    let records = 0;
    draft.commits++;
    this.#metaTable.set(0, draft);
    try {
      this.#db.beginWriting();
      for (const table of this.#tables()) records += table.flush();
      this.#db.commit();
    } catch (error) {
      this.discard();
      throw error;
    }
    this.#meta = draft;
    this.#draft = undefined;
    this.webhooks.committed();
    for (const entry of this.#changedKeys) {
      const { accessKey, apiKeyId } = entry.key;
      const hot = this.#hotKeys.get(accessKey);
      if (hot?.key.apiKeyId === apiKeyId) this.#hotKeys.set(accessKey, entry);
      else if (hot) this.#hotKeys.delete(accessKey);
    }
    this.#changedKeys = [];
    return records;
  }

  /** Forgets what was folded since the last commit. */
  discard(): void {
    this.#draft = undefined;
    this.#changedKeys = [];
    for (const table of this.#tables()) table.discard();
    this.#db.rollback();
  }

  #change(): Meta {
    this.#draft ??= structuredClone(this.#meta);
    return this.#draft;
  }

  #tables() {
    return [this.#metaTable, this.repositories, this.keys, this.webhooks, this.events];
  }
}
