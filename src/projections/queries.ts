import { type AiApiKey, type AiType, type Status, statusAt } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from './api-key-index.js';
import type { EventIndex } from './event-index.js';
import type { ListItem } from './list-item.js';
import type { Projector } from './projector.js';
import { type ReadModel, ReadModelLost } from './read-model.js';
import type { VerifyRequest, VerifyResult } from './verify.js';
import type { WebhookIndex } from './webhook-index.js';

/** Which keys of a repository; without a limit all of them. */
export type ListQuery = {
  readonly includeDeleted: boolean;
  readonly status?: Status | undefined;
  readonly aiType?: AiType | undefined;
  readonly limit?: number | undefined;
  /** The `next` of the page before. */
  readonly after?: Position | undefined;
};

/** A page of a list, and where the next begins; null if this was the last. */
export type ListPage<Item = ListItem> = { readonly items: readonly Item[]; readonly next: Position | null };

/** For how many seconds it was not known, when an answer was read, that it is all that the log holds. */
export type WithStaleness<T> = T & { readonly staleness: number };

/** Does a query ask for this one, at a time (milliseconds since 1970)? */
export function matchesFilter(
  item: ListItem,
  { includeDeleted, status, aiType }: ListQuery,
  now: number,
): boolean {
  if (!includeDeleted && item.status === 'deleted') return false;
  if (status !== undefined && statusAt(item, now) !== status) return false;
  return aiType === undefined || item.aiType === aiType;
}

/** What a list is filtered from, at a time. */
const MIN_READ_SIZE = 100;
const MAX_READ_SIZE = 1000;

/**
 * Everything that is asked of the projections. A read may name the position that its answer must hold: it
 * waits a second for it. Nothing is answered from a part of the log, or from one that may be long out of date.
 */
export class Queries {
  readonly #projector: Projector;
  readonly #readModel: ReadModel;
  readonly #clock: () => number;
  readonly #maxStaleness: number;

  /**
   * @param clock milliseconds since 1970
   * @param maxStaleness seconds without news of the log's end after which no key is verified; 0 is never
   */
  constructor(projector: Projector, readModel: ReadModel, clock: () => number, maxStaleness: number) {
    this.#projector = projector;
    this.#readModel = readModel;
    this.#clock = clock;
    this.#maxStaleness = maxStaleness || Number.POSITIVE_INFINITY;
  }

  /** Of verdicts, in seconds. */
  get verifyStaleness(): number {
    return this.#projector.indexProgress.staleness;
  }

  /**
   * The keys of a repository, newest first by log position.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async list(
    repoId: string,
    query: ListQuery,
    atLeast: Position | undefined,
  ): Promise<WithStaleness<ListPage>> {
    await this.#awaitListable(atLeast);
    const age = this.#stalenessSince();
    const { includeDeleted, limit = Number.POSITIVE_INFINITY } = query;
    const now = this.#clock();
    const size = Math.min(Math.max(limit + 1, MIN_READ_SIZE), MAX_READ_SIZE);
    const items: ListItem[] = [];
    for (let before = query.after; ; ) {
      const page = await this.#queryReadModel((model) =>
        model.list(repoId, { includeDeleted, before, size }),
      );
      for (const item of page) {
        if (!matchesFilter(item, query, now)) continue;
        if (items.length === limit)
          return { items, next: items.at(-1)?.createdPosition ?? null, staleness: age() };
        items.push(item);
      }
      if (page.length < size) return { items, next: null, staleness: age() };
      before = page.at(-1)?.createdPosition;
    }
  }

  /**
   * One key, a deleted one too; `item` is undefined if the repository has none of this id.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async get(
    repoId: string,
    apiKeyId: string,
    atLeast: Position | undefined,
  ): Promise<WithStaleness<{ readonly item: ListItem | undefined }>> {
    await this.#awaitListable(atLeast);
    const age = this.#stalenessSince();
    return { item: await this.#queryReadModel((model) => model.get(repoId, apiKeyId)), staleness: age() };
  }

  /**
   * Every key of a repository that the log holds at a position, deleted ones too, newest first, from those on
   * that were created before another.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async keysCreatedBefore(
    repoId: string,
    before: Position | undefined,
    atLeast: Position,
  ): Promise<Iterable<ApiKeyEntry>> {
    await this.awaitIndex(atLeast);
    return this.#projector.apiKeyIndex.keysOf(repoId, before);
  }

  /**
   * Of every event that the log holds up to a position where it is and what it is.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async eventIndexAt(position: Position): Promise<EventIndex> {
    await this.awaitIndex(position);
    return this.#projector.eventIndex;
  }

  /**
   * Is a credential good? Answered at once, and from memory. What is asked with a position goes through
   * `verifiable` first.
   * @throws KeyledgerError UNAVAILABLE
   */
  verify(question: VerifyRequest): VerifyResult<AiApiKey> {
    const { unverifiableBecause, indexProgress: indexed, apiKeyIndex: index } = this.#projector;
    if (unverifiableBecause !== undefined)
      throw new KeyledgerError('UNAVAILABLE', { message: unverifiableBecause });
    if (indexed.staleness > this.#maxStaleness) throw new KeyledgerError('STALE');
    return index.verify(question, this.#clock());
  }

  /** How far in the log verdicts have seen. */
  get verifiedPosition(): Position | undefined {
    return this.#projector.indexProgress.position;
  }

  /** The key whose good secret this is, whatever else may keep it from being valid. */
  findBySecret(accessKey: string, secret: string): AiApiKey | undefined {
    return this.#projector.apiKeyIndex.findBySecret(accessKey, secret, this.#clock());
  }

  /** Waits until lists hold the event at a position. @returns false if they do not within a second */
  awaitReadModel(position: Position): Promise<boolean> {
    return this.#projector.readModelProgress.waitFor(position);
  }

  /** Waits until verdicts hold the event at a position. @throws KeyledgerError BEHIND */
  async awaitVerifyPosition(atLeast: Position): Promise<void> {
    if (!(await this.#projector.indexProgress.waitFor(atLeast))) throw new KeyledgerError('BEHIND');
  }

  /**
   * Every webhook.
   * @throws KeyledgerError UNAVAILABLE, BEHIND
   */
  async webhooks(atLeast: Position | undefined): Promise<WebhookIndex> {
    await this.awaitIndex(atLeast);
    return this.#projector.webhookIndex;
  }

  /** Waits until what is in memory holds the event at a position. @returns false if it does not within a second */
  hasIndexed(position: Position): Promise<boolean> {
    return this.#projector.indexProgress.waitFor(position);
  }

  /** Waits until all that is in memory holds the event at a position. @throws KeyledgerError UNAVAILABLE, BEHIND */
  async awaitIndex(atLeast: Position | undefined): Promise<void> {
    const inTime = atLeast === undefined || (await this.#projector.indexProgress.waitFor(atLeast));
    const { unverifiableBecause } = this.#projector;
    if (unverifiableBecause !== undefined)
      throw new KeyledgerError('UNAVAILABLE', { message: unverifiableBecause });
    if (!inTime) throw new KeyledgerError('BEHIND');
  }

  async #awaitListable(atLeast: Position | undefined): Promise<void> {
    const inTime =
      atLeast === undefined ? undefined : await this.#projector.readModelProgress.waitFor(atLeast);
    const { unlistableBecause } = this.#projector;
    if (unlistableBecause) throw new KeyledgerError('UNAVAILABLE', { message: unlistableBecause });
    if (inTime === false) throw new KeyledgerError('BEHIND');
  }

  /** What is read from now on is as stale as the lists are now, and grows older while it is read. */
  #stalenessSince(): () => number {
    const began = performance.now();
    const { staleness } = this.#projector.readModelProgress;
    return () => staleness + (performance.now() - began) / 1000;
  }

  async #queryReadModel<T>(question: (readModel: ReadModel) => Promise<T>): Promise<T> {
    try {
      return await question(this.#readModel);
    } catch (cause) {
      if (cause instanceof ReadModelLost) this.#projector.restore();
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }
}
