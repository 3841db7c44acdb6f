/**
 * Verifier of API keys inside a gateway's process, for Node: it follows the service's replica of what
 * decides, and answers from memory, with the same code as the service.
 */

import { type InvalidReason, verifyCredential } from '../../projections/verify.js';
import type { ReplicaKey } from '../../subscribers/replica.js';
import { KeyledgerClientError } from '../client/error.js';
import { followMessages } from '../client/follow-messages.js';
import { query } from '../client/paths.js';
import { rejectUnknown } from '../client/reject-unknown.js';
import { isRetryable, retryDelay, wait } from '../client/retry.js';
import { createTransport } from '../client/transport.js';
import type { AiType, ClientOptions } from '../client/types.js';
import { deferred } from './deferred.js';
import { FailureNotifier } from './failure-notifier.js';
import { type LastUse, LastUsedReporter } from './last-used-reporter.js';
import { StalenessClock } from './staleness-clock.js';

export { KeyledgerClientError } from '../client/error.js';

/** The service sends a heartbeat every second; longest silence of a connection (milliseconds). */
const SILENT_MS = 10_000;
const MAX_STALENESS = 300;

export type VerifierOptions = Pick<ClientOptions, 'baseUrl' | 'token'> & {
  /**
   * Seconds without contact with the log's end after which the verifier refuses every key. Default: 300, like
   * the service
   */
  readonly maxStaleness?: number | undefined;
  /**
   * Receives background errors, once for each outage and not for each attempt: the service refuses the token,
   * does not answer, or does not accept the last uses of keys. Default: ignore them
   */
  readonly onError?: ((error: Error) => void) | undefined;
};

/** Repository and provider that a key must be valid for, if any. */
export type Requirement = { readonly repoId?: string | undefined; readonly aiType?: AiType | undefined };

export type VerificationOutcome =
  | {
      readonly valid: true;
      readonly apiKey: Pick<ReplicaKey, 'repoId' | 'name' | 'aiType' | 'expiresAt'> & { readonly id: string };
    }
  /** STALE: the verifier's data is too old, or still missing; this says nothing about the key. */
  | { readonly valid: false; readonly reason: InvalidReason | 'STALE' };

export type Verifier = {
  /**
   * Verifies a credential, synchronously.
   * @param key FB_AI_…; undefined, if a request has none, is MALFORMED
   * @param secret secret_…
   * @throws TypeError `requirement` has an unknown member: a restriction must not be dropped
   */
  verify(key: string | undefined, secret: string | undefined, requirement?: Requirement): VerificationOutcome;
  /**
   * Resolves when the verifier has all it needs to verify.
   * @throws KeyledgerClientError the service refuses the replica. The verifier retries nevertheless, so you
   * may call again
   */
  ready(): Promise<void>;
  /** Position in the log up to which the verifier has read; undefined before it is ready. */
  readonly position: string | undefined;
  /** Seconds since the verifier was last known to have read the whole log; Infinity before it is ready. */
  readonly staleness: number;
  /**
   * Error with which the service refuses the replica, if any; while the service is only unavailable,
   * staleness grows.
   */
  readonly failure: Error | undefined;
  /**
   * Closes the verifier, which refuses everything from then on. Settles when it has reported the last uses of
   * keys, or cannot: within two seconds.
   */
  close(): Promise<void>;
};

/**
 * Starts to follow the service, which requires a token of the role `replica`.
 * @throws TypeError, RangeError invalid options
 */
export function createVerifier({
  baseUrl,
  token,
  maxStaleness = MAX_STALENESS,
  onError = () => undefined,
  ...others
}: VerifierOptions): Verifier {
  rejectUnknown(others);
  if (!(maxStaleness > 0)) throw new RangeError('maxStaleness must be a number of seconds above 0');
  if (typeof onError !== 'function') throw new TypeError('onError must be a function');
  return new ReplicaVerifier(createTransport({ baseUrl, token }), maxStaleness, onError);
}

const RESTRICTIONS: Readonly<Record<keyof Requirement, true>> = { repoId: true, aiType: true };

/** The replica holds only what its reader may see. */
const seesEverything = () => true;

type Transport = ReturnType<typeof createTransport>;
type Begin = { readonly scope: string; readonly snapshot: boolean };
/** In seconds; `elapsed` counts from the start of the answer. */
type Heartbeat = { readonly staleness: number | null; readonly elapsed: number };

class ReplicaVerifier implements Verifier {
  readonly #transport: Transport;
  readonly #maxStaleness: number;
  readonly #failures: FailureNotifier;
  readonly #lastUsed: LastUsedReporter;
  readonly #stalenessClock = new StalenessClock();
  readonly #closing = new AbortController();
  #firstOutcome = deferred();
  #byAccessKey = new Map<string, ReplicaKey>();
  #position: string | undefined;
  #failure: Error | undefined;

  constructor(transport: Transport, maxStaleness: number, onError: (error: Error) => void) {
    this.#transport = transport;
    this.#maxStaleness = maxStaleness;
    this.#failures = new FailureNotifier(onError);
    this.#lastUsed = new LastUsedReporter((keys, signal) => this.#report(keys, signal), onError);
    void this.#run();
  }

  verify(
    key: string | undefined,
    secret: string | undefined,
    requirement: Requirement = {},
  ): VerificationOutcome {
    const { repoId, aiType } = requirement;
    // Member by member: a rest pattern would cost half of a verification.
    for (const name in requirement) if (!(name in RESTRICTIONS)) rejectUnknown({ [name]: true });
    if (this.staleness > this.#maxStaleness || this.#closing.signal.aborted) {
      return { valid: false, reason: 'STALE' };
    }
    const [accessKey, given] = [textOf(key), textOf(secret)];
    const request = { accessKey, secret: given, repoId, aiType, sees: seesEverything };
    const now = Date.now();
    const result = verifyCredential(this.#byAccessKey.get(accessKey), request, now);
    if (!result.valid) return result;
    const { apiKeyId: id, name, expiresAt, ...found } = result.key;
    this.#lastUsed.record(id, now);
    return { valid: true, apiKey: { id, repoId: found.repoId, name, aiType: found.aiType, expiresAt } };
  }

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

  close(): Promise<void> {
    this.#closing.abort(new Error('The verifier is closed'));
    return this.#lastUsed.close();
  }

  /**
   * Sends the position along: an instance that has read less of the log would ignore the use of an unknown
   * key.
   */
  async #report(keys: readonly LastUse[], signal: AbortSignal): Promise<void> {
    const body = { keys };
    const minPosition = this.#position;
    await this.#transport.call({ method: 'POST', path: '/replica/last-used', body, minPosition, signal });
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
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
      signal: this.#closing.signal,
      silentMs: SILENT_MS,
      onRetry: (error: Error) => this.#failures.failed(error),
    };
    for await (const { event, data, lastId, askedAt } of followMessages(
      this.#transport.open,
      pathFrom,
      options,
    )) {
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
          for (const key of JSON.parse(data) as ReplicaKey[]) keys.set(key.accessKey, key);
          break;
        case 'caught-up':
        case 'heartbeat': {
          const { staleness, elapsed } = JSON.parse(data) as Heartbeat;
          if (staleness === null) break;
          // The message left `elapsed` after the start of the answer, which followed the request: the rest is
          // network delay.
          const delay = Math.max(0, (performance.now() - askedAt) / 1000 - elapsed);
          this.#stalenessClock.observe(staleness + delay);
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
}

/** A header that a request repeats is not a string. */
const textOf = (given: unknown): string => (typeof given === 'string' ? given : '');
