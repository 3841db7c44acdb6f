/**
 * Verifier of API keys inside a gateway's process, for Node: it follows the service's replica of what decides, and
 * answers from memory, with the same code as the service.
 */

import { type InvalidReason, verifyCredential } from '../../projections/verify.js';
import type { ReplicaKey } from '../../subscribers/replica.js';
import type { AiType, ClientOptions } from '../client/options.js';
import { rejectUnknown } from '../client/reject-unknown.js';
import { createTransport } from '../client/transport.js';
import { FailureNotifier } from './failure-notifier.js';
import { type LastUse, LastUsedReporter } from './last-used-reporter.js';
import { ReplicaFollower } from './replica-follower.js';

export { KeyledgerClientError } from '../client/error.js';

const MAX_STALENESS = 300;

export type VerifierOptions = Pick<ClientOptions, 'baseUrl' | 'token'> & {
  /**
   * Seconds without contact with the log's end after which the verifier refuses every key. Default: 300, like the
   * service
   */
  readonly maxStaleness?: number | undefined;
  /**
   * Receives background errors, once for each outage and not for each attempt: the service refuses the token, does not
   * answer, or does not accept the last uses of keys. Default: ignore them
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
   * @throws KeyledgerClientError the service refuses the replica. The verifier retries nevertheless, so you may call
   * again
   */
  ready(): Promise<void>;
  /** Position in the log up to which the verifier has read; undefined before it is ready. */
  readonly position: string | undefined;
  /** Seconds since the verifier was last known to have read the whole log; Infinity before it is ready. */
  readonly staleness: number;
  /**
   * Error with which the service refuses the replica, if any; while the service is only unavailable, staleness grows.
   */
  readonly failure: Error | undefined;
  /**
   * Closes the verifier, which refuses everything from then on. Settles when it has reported the last uses of keys, or
   * cannot: within two seconds.
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
const canSeeEverything = () => true;

type Transport = ReturnType<typeof createTransport>;
class ReplicaVerifier implements Verifier {
  readonly #transport: Transport;
  readonly #maxStaleness: number;
  readonly #lastUsed: LastUsedReporter;
  readonly #closing = new AbortController();
  readonly #replica: ReplicaFollower;

  constructor(transport: Transport, maxStaleness: number, onError: (error: Error) => void) {
    this.#transport = transport;
    this.#maxStaleness = maxStaleness;
    this.#replica = new ReplicaFollower(transport.open, new FailureNotifier(onError), this.#closing.signal);
    this.#lastUsed = new LastUsedReporter((keys, signal) => this.#report(keys, signal), onError);
  }

  verify(key: string | undefined, secret: string | undefined, requirement: Requirement = {}): VerificationOutcome {
    const { repoId, aiType } = requirement;
    // Member by member: a rest pattern would cost half of a verification.
    for (const name in requirement) if (!(name in RESTRICTIONS)) rejectUnknown({ [name]: true });
    if (this.staleness > this.#maxStaleness || this.#closing.signal.aborted) {
      return { valid: false, reason: 'STALE' };
    }
    const [accessKey, given] = [textOf(key), textOf(secret)];
    const request = { accessKey, secret: given, repoId, aiType, canSee: canSeeEverything };
    const now = Date.now();
    const result = verifyCredential(this.#replica.find(accessKey), request, now);
    if (!result.valid) return result;
    const { apiKeyId: id, name, expiresAt, ...found } = result.key;
    this.#lastUsed.record(id, now);
    return { valid: true, apiKey: { id, repoId: found.repoId, name, aiType: found.aiType, expiresAt } };
  }

  ready(): Promise<void> {
    return this.#replica.ready();
  }

  get position(): string | undefined {
    return this.#replica.position;
  }

  get staleness(): number {
    return this.#replica.staleness;
  }

  get failure(): Error | undefined {
    return this.#replica.failure;
  }

  close(): Promise<void> {
    this.#closing.abort(new Error('The verifier is closed'));
    return this.#lastUsed.close();
  }

  /** Sends the position along: an instance that has read less of the log would ignore the use of an unknown key. */
  async #report(keys: readonly LastUse[], signal: AbortSignal): Promise<void> {
    const body = { keys };
    const minPosition = this.#replica.position;
    await this.#transport.call({ method: 'POST', path: '/replica/last-used', body, minPosition, signal });
  }
}

/** A header that a request repeats is not a string. */
const textOf = (given: unknown): string => (typeof given === 'string' ? given : '');
