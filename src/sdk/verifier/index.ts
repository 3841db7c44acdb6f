/**
 * A verifier of API keys in the process of a gateway, for Node: it follows the service's replica of what decides, and
 * answers from memory, by the very code that the service answers with.
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

/** The service sends a heartbeat every second. */
const SILENT_MS = 10_000;
const MAX_STALENESS = 300;

export type VerifierOptions = Pick<ClientOptions, 'baseUrl' | 'token'> & {
  /** Seconds without news of the log's end after which every key is refused. Default: 300, as the service does */
  readonly maxStaleness?: number | undefined;
  /**
   * Receives what goes wrong behind `verify`, once for each outage and not for each attempt: the service refuses the
   * token, or does not answer, or does not take the last uses of keys. Default: nothing is done.
   */
  readonly onError?: ((error: Error) => void) | undefined;
};

/** What a key must be good for, if it matters. */
export type Requirement = { readonly repoId?: string | undefined; readonly aiType?: AiType | undefined };

export type VerificationOutcome =
  | {
      readonly valid: true;
      readonly apiKey: Pick<ReplicaKey, 'repoId' | 'name' | 'aiType' | 'expiresAt'> & { readonly id: string };
    }
  /** STALE: it has not been known for too long what became of keys, or never yet. That says nothing of this one. */
  | { readonly valid: false; readonly reason: InvalidReason | 'STALE' };

export type Verifier = {
  /**
   * Is a credential good? Answered at once.
   * @param key FB_AI_…; undefined, if a request has none, is MALFORMED
   * @param secret secret_…
   * @throws TypeError a member of `use` that does not exist: a restriction must not be dropped
   */
  verify(key: string | undefined, secret: string | undefined, requirement?: Requirement): VerificationOutcome;
  /**
   * Settles when everything is here that is needed to verify.
   * @throws KeyledgerClientError the service refuses to give it. It is asked again all the same: so may you
   */
  ready(): Promise<void>;
  /** How far in the log it has seen; undefined before it is ready. */
  readonly position: string | undefined;
  /** For how many seconds it has not been known that this is all that the log holds; Infinity before it is ready. */
  readonly staleness: number;
  /** Why the service refuses to be followed, if it does; while it is only out of reach, staleness grows. */
  readonly failure: Error | undefined;
  /**
   * Ends it. Everything is refused from then on. Settles when the last uses of keys are reported, or cannot be: within
   * two seconds.
   */
  close(): Promise<void>;
};

/**
 * Begins to follow the service, which takes a token of the role `replica`.
 * @throws TypeError, RangeError for options that make no verifier
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

/** The replica holds nothing but what its reader may see. */
const seesEverything = () => true;

type Transport = ReturnType<typeof createTransport>;
type Begin = { readonly scope: string; readonly snapshot: boolean };
/** In seconds; elapsed since the answer began. */
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
    // Looked at one by one: a rest pattern would cost half of a verification.
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

  /** An instance that has seen less of the log would ignore the use of a key that it does not know yet. */
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
        // Positions of another log, or of events that are gone: from the beginning.
        if (error instanceof KeyledgerClientError && error.code === 'OTHER_LOG') this.#position = undefined;
        else if (!(error instanceof KeyledgerClientError && isRetryable(error))) this.#onRefused(error);
        await wait(retryDelay(++failures, null, Math.random()), signal).catch(() => undefined);
      }
    }
    this.#firstOutcome.reject(signal.reason);
  }

  /** Whoever waits for the beginning is told; whoever asks after that waits for the next answer. */
  #onRefused(error: unknown): void {
    if (this.staleness !== Number.POSITIVE_INFINITY) return;
    const { reject } = this.#firstOutcome;
    this.#firstOutcome = deferred();
    reject(error);
  }

  /**
   * Follows until everything must be fetched anew: another set of repositories may be followed now.
   * @returns the scope of it
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
          // Was sent that long after the answer began, which was not before it was asked for: the rest is delay.
          const delay = Math.max(0, (performance.now() - askedAt) / 1000 - elapsed);
          this.#stalenessClock.observe(staleness + delay);
          this.#firstOutcome.resolve();
          break;
        }
      }
      // Messages of a snapshot have no id, for it is not whole before its end.
      if (lastId === '') continue;
      this.#byAccessKey = keys;
      this.#position = lastId;
    }
    throw new Error('The stream has no end');
  }
}

/** A header that a request has twice is no text. */
const textOf = (given: unknown): string => (typeof given === 'string' ? given : '');
