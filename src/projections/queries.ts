import { type AiApiKey, secretHashesAt } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { Position } from '../event-store/position.js';
import { hasHash } from '../security/credentials.js';
import type { ApiKeyEntry } from './api-key-entry.js';
import type { ListItem } from './list-item.js';
import { type ListPage, type ListQuery, matchesFilter } from './list-query.js';
import type { Events } from './local/events.js';
import type { Webhooks } from './local/webhooks.js';
import type { Projector } from './projector.js';
import { type Lists, ReadModelLost } from './read-model.js';
import { type VerifyRequest, type VerifyResult, verifyCredential } from './verify.js';

/** An answer and its staleness: seconds since the projection was last known to hold the whole log. */
export type WithStaleness<T> = T & { readonly staleness: number };

/** The result of a verification, and the position in the log that it is based on. */
export type Verification = WithStaleness<{
  readonly result: VerifyResult<AiApiKey>;
  readonly position: Position | undefined;
}>;

/** Items that one read of a filtered list fetches from the read model. */
const MIN_READ_SIZE = 100;
const MAX_READ_SIZE = 1000;

/**
 * Queries of the projections for the HTTP API. A query with a minimum position waits up to a second for it. No query is
 * answered from a part of the log, and no key is verified on data that may be too old.
 */
export class Queries {
  readonly #projector: Projector;
  readonly #lists: Lists;
  readonly #clock: () => EpochMs;
  readonly #maxStaleness: number;

  /** @param maxStaleness seconds of staleness above which no key is verified; 0: no limit */
  constructor(projector: Projector, lists: Lists, clock: () => EpochMs, maxStaleness: number) {
    this.#projector = projector;
    this.#lists = lists;
    this.#clock = clock;
    this.#maxStaleness = maxStaleness || Number.POSITIVE_INFINITY;
  }

  /**
   * A page of the API keys of a repository, newest first by log position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND; so does `listAll`
   */
  async list(
    repoId: string,
    query: ListQuery & { readonly limit: number },
    minPosition: Position | undefined,
  ): Promise<WithStaleness<ListPage>> {
    const { pages, staleness } = await this.#startList(repoId, query, query.limit + 1, minPosition);
    const items: ListItem[] = [];
    for await (const page of pages) {
      for (const item of page) {
        if (items.length === query.limit)
          return { items, next: items.at(-1)?.createdPosition ?? null, staleness: staleness() };
        items.push(item);
      }
    }
    return { items, next: null, staleness: staleness() };
  }

  /** All API keys of a repository, newest first, in arrays that come while the caller takes them. */
  async listAll(
    repoId: string,
    query: ListQuery,
    minPosition: Position | undefined,
  ): Promise<WithStaleness<{ readonly pages: AsyncGenerator<ListItem[]> }>> {
    const { pages, staleness } = await this.#startList(repoId, query, MAX_READ_SIZE, minPosition);
    return { pages, staleness: staleness() };
  }

  async #startList(repoId: string, query: ListQuery, size: number, minPosition: Position | undefined) {
    await this.#requireList(minPosition);
    const staleness = this.#stalenessFromNow();
    return { pages: this.#pages(repoId, query, Math.min(Math.max(size, MIN_READ_SIZE), MAX_READ_SIZE)), staleness };
  }

  /** The keys that match a query, an array for each read of `size` keys. */
  async *#pages(repoId: string, query: ListQuery, size: number): AsyncGenerator<ListItem[]> {
    const { includeDeleted } = query;
    const now = this.#clock();
    for (let before = query.after; ; ) {
      const read = await this.#queryLists((lists) => lists.list(repoId, { includeDeleted, before, size }));
      yield read.filter((item) => matchesFilter(item, query, now));
      if (read.length < size) return;
      before = read.at(-1)?.createdPosition;
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
      item: await this.#queryLists((lists) => lists.get(repoId, apiKeyId)),
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
    return this.#projector.store.keys.ofRepository(repoId, before);
  }

  /**
   * The index of all events, once it holds the event at a position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async eventsAt(position: Position): Promise<Events> {
    await this.requireIndexPosition(position);
    return this.#projector.store.events;
  }

  /**
   * The webhooks, once the projections hold the event at a position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async webhooks(minPosition: Position | undefined): Promise<Webhooks> {
    await this.requireIndexPosition(minPosition);
    return this.#projector.store.webhooks;
  }

  /**
   * Verifies a credential.
   * @param minPosition the answer holds the event at this position
   * @throws KeyledgerError UNAVAILABLE, STARTING, PROJECTIONS_DAMAGED, STALE, BEHIND
   */
  async verify(request: VerifyRequest, minPosition?: Position): Promise<Verification> {
    if (minPosition !== undefined) await this.requirePosition(minPosition);
    this.#require('verify');
    const { indexProgress, store } = this.#projector;
    const { staleness, position } = indexProgress;
    if (staleness > this.#maxStaleness) throw new KeyledgerError('STALE');
    const key = store.keyToVerify(request.accessKey)?.key;
    return { result: verifyCredential(key, request, this.#clock()), position, staleness };
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
    const key = this.#projector.store.keyToVerify(accessKey)?.key;
    return key && hasHash(secret, secretHashesAt(key, this.#clock())) ? key : undefined;
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
    this.#require('verify');
    if (!reached) throw new KeyledgerError('BEHIND');
  }

  async #requireList(minPosition: Position | undefined): Promise<void> {
    const reached = minPosition === undefined || (await this.awaitReadModel(minPosition));
    this.#require('list');
    if (!reached) throw new KeyledgerError('BEHIND');
  }

  /** @throws KeyledgerError UNAVAILABLE, STARTING, PROJECTIONS_DAMAGED */
  #require(what: 'verify' | 'list'): void {
    const state = this.#projector.status[what];
    if (!state.ok) {
      const { code, reason } = state;
      throw new KeyledgerError(code, { message: reason, expected: code === 'STARTING' });
    }
  }

  /** Staleness of an answer that is read from now on: that of the lists now, plus the time that reading takes. */
  #stalenessFromNow(): () => number {
    const startedAt = performance.now();
    const { staleness } = this.#projector.readModelProgress;
    return () => staleness + (performance.now() - startedAt) / 1000;
  }

  async #queryLists<T>(query: (lists: Lists) => Promise<T>): Promise<T> {
    try {
      return await query(this.#lists);
    } catch (cause) {
      if (cause instanceof KeyledgerError) throw cause;
      if (cause instanceof ReadModelLost) this.#projector.restoreReadModel();
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }
}
