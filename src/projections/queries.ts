import { type AiApiKey, type AiType, type Status, statusAt } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from './api-key-index.js';
import type { EventIndex } from './event-index.js';
import type { ListItem } from './list-item.js';
import type { Projector } from './projector.js';
import { type ReadModel, ReadModelLost } from './read-model.js';
import type { VerifyRequest, VerifyResult } from './verify.js';
import type { WebhookIndex } from './webhook-index.js';

/** A list of the API keys of a repository; without a limit all of them. */
export type ListQuery = {
  readonly includeDeleted: boolean;
  readonly status?: Status | undefined;
  readonly aiType?: AiType | undefined;
  readonly limit?: number | undefined;
  /** The `next` of the previous page. */
  readonly after?: Position | undefined;
};

/** A page of a list, and where the next page starts; null on the last page. */
export type ListPage<Item = ListItem> = { readonly items: readonly Item[]; readonly next: Position | null };

/** An answer and its staleness: seconds since the projection was last known to hold the whole log. */
export type WithStaleness<T> = T & { readonly staleness: number };

/** The result of a verification, and the position in the log that it is based on. */
export type Verification = WithStaleness<{
  readonly result: VerifyResult<AiApiKey>;
  readonly position: Position | undefined;
}>;

/** Does an item match the filters of a query at a time? */
export function matchesFilter(item: ListItem, { includeDeleted, status, aiType }: ListQuery, now: EpochMs): boolean {
  if (!includeDeleted && item.status === 'deleted') return false;
  if (status !== undefined && statusAt(item, now) !== status) return false;
  return aiType === undefined || item.aiType === aiType;
}

/** Items that one read of a filtered list fetches from the read model. */
const MIN_READ_SIZE = 100;
const MAX_READ_SIZE = 1000;

/**
 * Queries of the projections for the HTTP API. A query with a minimum position waits up to a second for it. No query is
 * answered from a part of the log, and no key is verified on data that may be too old.
 */
export class Queries {
  readonly #projector: Projector;
  readonly #readModel: ReadModel;
  readonly #clock: () => EpochMs;
  readonly #maxStaleness: number;

  /** @param maxStaleness seconds of staleness above which no key is verified; 0: no limit */
  constructor(projector: Projector, readModel: ReadModel, clock: () => EpochMs, maxStaleness: number) {
    this.#projector = projector;
    this.#readModel = readModel;
    this.#clock = clock;
    this.#maxStaleness = maxStaleness || Number.POSITIVE_INFINITY;
  }

  /**
   * The API keys of a repository, newest first by log position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async list(repoId: string, query: ListQuery, minPosition: Position | undefined): Promise<WithStaleness<ListPage>> {
    await this.#requireList(minPosition);
    const staleness = this.#stalenessFromNow();
    const { includeDeleted, limit = Number.POSITIVE_INFINITY } = query;
    const now = this.#clock();
    const size = Math.min(Math.max(limit + 1, MIN_READ_SIZE), MAX_READ_SIZE);
    const items: ListItem[] = [];
    for (let before = query.after; ; ) {
      const page = await this.#queryReadModel((model) => model.list(repoId, { includeDeleted, before, size }));
      for (const item of page) {
        if (!matchesFilter(item, query, now)) continue;
        if (items.length === limit)
          return { items, next: items.at(-1)?.createdPosition ?? null, staleness: staleness() };
        items.push(item);
      }
      if (page.length < size) return { items, next: null, staleness: staleness() };
      before = page.at(-1)?.createdPosition;
    }
  }

  /**
   * One API key, also after its deletion; `item` is undefined if the repository has no key of this id.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async get(
    repoId: string,
    apiKeyId: string,
    minPosition: Position | undefined,
  ): Promise<WithStaleness<{ readonly item: ListItem | undefined }>> {
    await this.#requireList(minPosition);
    const staleness = this.#stalenessFromNow();
    return {
      item: await this.#queryReadModel((model) => model.get(repoId, apiKeyId)),
      staleness: staleness(),
    };
  }

  /**
   * Every API key of a repository, deleted ones too, newest first.
   * @param before only keys that were created before this position
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async keysCreatedBefore(
    repoId: string,
    before: Position | undefined,
    minPosition: Position,
  ): Promise<Iterable<ApiKeyEntry>> {
    await this.requireIndexPosition(minPosition);
    return this.#projector.apiKeyIndex.keysOf(repoId, before);
  }

  /**
   * The event index, once it holds the event at a position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async eventIndexAt(position: Position): Promise<EventIndex> {
    await this.requireIndexPosition(position);
    return this.#projector.eventIndex;
  }

  /**
   * The webhook index, once it holds the event at a position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async webhooks(minPosition: Position | undefined): Promise<WebhookIndex> {
    await this.requireIndexPosition(minPosition);
    return this.#projector.webhookIndex;
  }

  /**
   * Verifies a credential from memory.
   * @param minPosition the answer holds the event at this position
   * @throws KeyledgerError UNAVAILABLE, STALE, BEHIND
   */
  async verify(request: VerifyRequest, minPosition?: Position): Promise<Verification> {
    if (minPosition !== undefined) await this.requirePosition(minPosition);
    const { status, indexProgress, apiKeyIndex } = this.#projector;
    if (!status.verify.ok) throw unavailable(status.verify.reason);
    const { staleness, position } = indexProgress;
    if (staleness > this.#maxStaleness) throw new KeyledgerError('STALE');
    return { result: apiKeyIndex.verify(request, this.#clock()), position, staleness };
  }

  /** Staleness of verifications, in seconds. */
  get verifyStaleness(): number {
    return this.#projector.indexProgress.staleness;
  }

  /**
   * The API key that a credential belongs to, whatever else keeps the key from being valid; undefined if the secret is
   * not one of its valid secrets.
   * @param minPosition the answer holds the event at this position
   * @throws KeyledgerError BEHIND
   */
  async findBySecret(
    { accessKey, secret }: Pick<VerifyRequest, 'accessKey' | 'secret'>,
    minPosition: Position,
  ): Promise<AiApiKey | undefined> {
    await this.requirePosition(minPosition);
    return this.#projector.apiKeyIndex.findBySecret(accessKey, secret, this.#clock());
  }

  /** Waits until lists hold the event at a position. @returns false if they do not within a second */
  awaitReadModel(position: Position): Promise<boolean> {
    return this.#projector.readModelProgress.waitFor(position);
  }

  /** Waits until the indexes hold the event at a position. @returns false if they do not within a second */
  awaitIndex(position: Position): Promise<boolean> {
    return this.#projector.indexProgress.waitFor(position);
  }

  /** As `awaitIndex`. @throws KeyledgerError BEHIND */
  async requirePosition(position: Position): Promise<void> {
    if (!(await this.#projector.indexProgress.waitFor(position))) throw new KeyledgerError('BEHIND');
  }

  /**
   * Waits until the indexes hold the whole log, and the event at a position. @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async requireIndexPosition(minPosition: Position | undefined): Promise<void> {
    const reached = minPosition === undefined || (await this.awaitIndex(minPosition));
    const { verify } = this.#projector.status;
    if (!verify.ok) throw unavailable(verify.reason);
    if (!reached) throw new KeyledgerError('BEHIND');
  }

  async #requireList(minPosition: Position | undefined): Promise<void> {
    const reached = minPosition === undefined || (await this.awaitReadModel(minPosition));
    const { list } = this.#projector.status;
    if (!list.ok) throw unavailable(list.reason);
    if (!reached) throw new KeyledgerError('BEHIND');
  }

  /** Staleness of an answer that is read from now on: that of the lists now, plus the time that reading takes. */
  #stalenessFromNow(): () => number {
    const startedAt = performance.now();
    const { staleness } = this.#projector.readModelProgress;
    return () => staleness + (performance.now() - startedAt) / 1000;
  }

  async #queryReadModel<T>(query: (readModel: ReadModel) => Promise<T>): Promise<T> {
    try {
      return await query(this.#readModel);
    } catch (cause) {
      if (cause instanceof ReadModelLost) this.#projector.restoreReadModel();
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }
}

const unavailable = (message: string) => new KeyledgerError('UNAVAILABLE', { message });
