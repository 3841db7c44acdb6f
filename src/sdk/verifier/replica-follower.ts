import { readClocks, StalenessClock } from '../../staleness-clock.js';
import type { ReplicaKey } from '../../subscribers/replica.js';
import { KeyledgerClientError } from '../client/error.js';
import { followMessages } from '../client/follow-messages.js';
import { query } from '../client/paths.js';
import { isRetryable, retryDelay, wait } from '../client/retry.js';
import type { Open } from '../client/transport.js';
import { deferred } from './deferred.js';
import type { FailureNotifier } from './failure-notifier.js';

/** The service sends a heartbeat every second; longest silence of a connection (milliseconds). */
const SILENT_MS = 10_000;

/** A key in memory, without what no verification of it needs. */
type Kept = Omit<ReplicaKey, 'accessKey'>;

type Begin = { readonly scope: string; readonly snapshot: boolean };
/** In seconds; `elapsed` counts from the start of the answer. */
type Heartbeat = { readonly staleness: number | null; readonly elapsed: number };

/** Keeps the keys of the service's replica in memory, for as long as the signal is not aborted. */
export class ReplicaFollower {
  readonly #open: Open;
  readonly #failures: FailureNotifier;
  readonly #signal: AbortSignal;
  readonly #stalenessClock = new StalenessClock();
  #firstOutcome = deferred();
  #byAccessKey = new Map<string, Kept>();
  /** Each name of a repository once, for all of its keys. */
  readonly #repoIds = new Map<string, string>();
  #position: string | undefined;
  #failure: Error | undefined;

  constructor(open: Open, failures: FailureNotifier, signal: AbortSignal) {
    this.#open = open;
    this.#failures = failures;
    this.#signal = signal;
    void this.#run();
  }

  find(accessKey: string): Kept | undefined {
    return this.#byAccessKey.get(accessKey);
  }

  /** See Verifier. */
  ready(): Promise<void> {
    return this.#firstOutcome.promise;
  }

  get position(): string | undefined {
    return this.#position;
  }

  get staleness(): number {
    return this.#stalenessClock.staleness;
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  async #run(): Promise<void> {
    const signal = this.#signal;
    let scope: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        scope = await this.#follow(scope);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        this.#failure = error as Error;
        this.#failures.failed(this.#failure);
        // The positions belong to another log, or to events that it lost: start from the beginning.
        if (error instanceof KeyledgerClientError && error.code === 'OTHER_LOG') this.#position = undefined;
        else if (!(error instanceof KeyledgerClientError && isRetryable(error))) this.#onRefused(error);
        await wait(retryDelay(++failures, null, Math.random()), signal).catch(() => undefined);
      }
    }
    this.#firstOutcome.reject(signal.reason);
  }

  /** Rejects those who wait for `ready`; later callers wait for the next outcome. */
  #onRefused(error: unknown): void {
    if (this.staleness !== Number.POSITIVE_INFINITY) return;
    const { reject } = this.#firstOutcome;
    this.#firstOutcome = deferred();
    reject(error);
  }

  /**
   * Follows the replica until another set of repositories requires a new snapshot.
   * @returns the scope of the replica to follow
   */
  async #follow(knownScope: string | undefined): Promise<string> {
    const from = this.#position;
    let scope = knownScope;
    let keys = this.#byAccessKey;
    const pathFrom = (after: string | undefined) => `/replica${query({ after })}`;
    const options = {
      after: from,
      signal: this.#signal,
      silentMs: SILENT_MS,
      onRetry: (error: Error) => this.#failures.failed(error),
    };
    for await (const { event, data, lastId, askedAt } of followMessages(this.#open, pathFrom, options)) {
      this.#failure = undefined;
      this.#failures.succeeded();
      switch (event) {
        case 'begin': {
          const begin = JSON.parse(data) as Begin;
          if (begin.snapshot) keys = new Map();
          else if (begin.scope !== scope) {
            this.#position = undefined;
            return begin.scope;
          }
          scope = begin.scope;
          break;
        }
        case 'keys':
          for (const key of JSON.parse(data) as ReplicaKey[]) keys.set(key.accessKey, this.#kept(key));
          break;
        case 'caught-up':
        case 'heartbeat': {
          const { staleness, elapsed } = JSON.parse(data) as Heartbeat;
          if (staleness === null) break;
          // The message left `elapsed` after the start of the answer, which followed the request: the rest is network
          // delay.
          const delay = Math.max(0, (performance.now() - askedAt) / 1000 - elapsed);
          this.#stalenessClock.confirmCurrentAt(readClocks(), (staleness + delay) * 1000);
          this.#firstOutcome.resolve();
          break;
        }
      }
      // Messages of a snapshot have no id, because the snapshot is incomplete before its end.
      if (lastId === '') continue;
      this.#byAccessKey = keys;
      this.#position = lastId;
    }
    throw new Error('The endless stream of the replica ended');
  }

  #kept({ apiKeyId, repoId, name, aiType, status, expiresAt, secretHash, oldSecret }: ReplicaKey): Kept {
    if (!this.#repoIds.has(repoId)) this.#repoIds.set(repoId, repoId);
    return {
      apiKeyId,
      repoId: this.#repoIds.get(repoId) as string,
      name: status === 'deleted' ? '' : name,
      aiType,
      status,
      expiresAt,
      secretHash,
      oldSecret: oldSecret && Date.parse(oldSecret.goodUntil) > Date.now() ? oldSecret : null,
    };
  }
}
