import { setTimeout as pause } from 'node:timers/promises';
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import type { BaseLogger } from 'pino';
import { KeyledgerError } from '../domain/errors.js';
import { readClocks, StalenessClock } from '../staleness-clock.js';

type Pauses = {
  /** Between background refreshes, and after one that failed. */
  readonly refreshMs: number;
  readonly retryMs: number;
  /** Between refreshes for tokens that name an unknown key: the first, and the longest after fruitless ones. */
  readonly unknownKeyMs: number;
  readonly longestUnknownKeyMs: number;
};
const PAUSES: Pauses = {
  refreshMs: 240_000,
  retryMs: 10_000,
  unknownKeyMs: 1000,
  longestUnknownKeyMs: 30_000,
};
const FETCH_TIMEOUT_MS = 5000;
/** Longest wait of a token for a refresh. */
const MAX_WAIT_MS = 5000;
/** Tokens that may wait for a refresh at once; others with unknown keys get UNAVAILABLE. */
const MAX_WAITING = 1000;

type Fetched = {
  readonly getKey: ReturnType<typeof createLocalJWKSet>;
  readonly text: string;
};

/**
 * The key set of a token issuer (RFC 7517). The last one that was fetched is used while the issuer is unavailable, up
 * to a maximum age.
 */
export class KeySet {
  readonly #url: URL;
  readonly #maxAgeSeconds: number;
  readonly #logger: BaseLogger;
  readonly #pauses: Pauses;
  readonly #stopping = new AbortController();
  #fetched: Fetched | undefined;
  /** Since the fetch of the current key set started. */
  readonly #age = new StalenessClock();
  #failure: unknown;
  #version = 0;
  #lastFetchAt = Number.NEGATIVE_INFINITY;
  /** Consecutive refreshes for unknown keys that brought no other key set. */
  #fruitlessRefreshes = 0;
  #waiting = 0;
  #refreshing: Promise<void> | undefined;
  #nextRefresh: Promise<void> | undefined;

  /** @param maxAgeSeconds a key set that was fetched longer ago is not used */
  constructor(url: URL, maxAgeSeconds: number, logger: BaseLogger, pauses = PAUSES) {
    this.#url = url;
    this.#maxAgeSeconds = maxAgeSeconds;
    this.#logger = logger;
    this.#pauses = pauses;
  }

  /** Starts to refresh in the background. */
  start(): void {
    void this.#refreshForever();
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** Changes with each key set that differs from the one before. */
  get version(): number {
    return this.#version;
  }

  /** Seconds since the key set was fetched; Infinity before the first fetch. */
  get ageSeconds(): number {
    return this.#age.staleness;
  }

  /**
   * The key that signed a token, for jose.
   * @throws KeyledgerError UNAVAILABLE: no key set is usable, or an unknown key cannot be looked up now
   * @throws JOSEError the key set holds no such key
   */
  readonly getKey: JWTVerifyGetKey = async (header, token) => {
    // Waits for the first key set; background refreshes bring later ones.
    if (!this.#isUsable()) await (this.#refreshing ?? (this.#mayTryAgain() ? this.#refresh() : undefined));
    const { getKey } = this.#usable();
    try {
      return await getKey(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    }
    // The issuer may have a new key.
    await this.#refreshForUnknownKey();
    if (this.#failure !== undefined) throw this.#unavailable();
    return this.#usable().getKey(header, token);
  };

  #isUsable(): boolean {
    return this.ageSeconds <= this.#maxAgeSeconds;
  }

  #usable(): Fetched {
    if (this.#fetched && this.#isUsable()) return this.#fetched;
    throw this.#unavailable();
  }

  #unavailable(): KeyledgerError {
    const reason = (this.#failure as Error | undefined)?.message ?? 'it is being fetched';
    return new KeyledgerError('UNAVAILABLE', { cause: new KeySetUnavailable(reason) });
  }

  /** Limits attempts while the issuer is unavailable: otherwise each call would wait for the timeout. */
  #mayTryAgain(): boolean {
    return performance.now() - this.#lastFetchAt >= this.#pauses.unknownKeyMs;
  }

  async #refreshForever(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#refresh();
      const { refreshMs, retryMs } = this.#pauses;
      const pauseMs = this.#failure === undefined ? refreshMs : retryMs;
      await pause(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /**
   * Waits for a refresh that begins after this call, shared by all waiting tokens. Any token can name an unknown key,
   * so fruitless refreshes back off, and a token for which the next one is too far away gets UNAVAILABLE.
   */
  async #refreshForUnknownKey(): Promise<void> {
    const { unknownKeyMs, longestUnknownKeyMs } = this.#pauses;
    const pauseMs = Math.min(unknownKeyMs * 2 ** this.#fruitlessRefreshes, longestUnknownKeyMs);
    const wait = this.#lastFetchAt + pauseMs - performance.now();
    if (wait > MAX_WAIT_MS || this.#waiting >= MAX_WAITING) throw this.#unavailable();
    this.#waiting++;
    try {
      this.#nextRefresh ??= this.#refreshAfter(wait).finally(() => {
        this.#nextRefresh = undefined;
      });
      await this.#nextRefresh;
    } finally {
      this.#waiting--;
    }
  }

  async #refreshAfter(waitMs: number): Promise<void> {
    await this.#refreshing;
    if (waitMs > 0) await pause(waitMs);
    const { version } = this;
    await this.#refresh();
    this.#fruitlessRefreshes = this.version === version ? this.#fruitlessRefreshes + 1 : 0;
  }

  #refresh(): Promise<void> {
    this.#refreshing ??= this.#fetch().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #fetch(): Promise<void> {
    const startedAt = readClocks();
    this.#lastFetchAt = startedAt.steady;
    try {
      const text = await fetchText(this.#url, this.#stopping.signal);
      const getKey = createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
      if (text !== this.#fetched?.text) this.#version++;
      this.#fetched = { getKey, text };
      this.#age.confirmCurrentAt(startedAt);
      if (this.#failure !== undefined) this.#logger.info('The key set of the token issuer is available again');
      this.#failure = undefined;
    } catch (error) {
      if (this.#failure === undefined && !this.#stopping.signal.aborted)
        this.#logger.warn({ err: error }, 'The key set of the token issuer (JWT_JWKS_URL) is unavailable');
      this.#failure = error;
    }
  }
}

/** Expected: KeySet itself logs the reason, once. */
class KeySetUnavailable extends Error {
  readonly expected = true;

  constructor(reason: string) {
    super(`The key set of the token issuer is unavailable: ${reason}`);
    this.name = 'KeySetUnavailable';
  }
}

async function fetchText(url: URL, stopping: AbortSignal): Promise<string> {
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(FETCH_TIMEOUT_MS)]);
  const headers = { accept: 'application/json, application/jwk-set+json' };
  const response = await fetch(url, { headers, signal, redirect: 'error' });
  if (response.status !== 200) throw new Error(`It answered ${response.status} instead of 200`);
  return response.text();
}
