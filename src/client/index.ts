/**
 * The client of Keyledger's HTTP API: typed, without dependencies, for Node, browsers and the like.
 *
 * It tries again what failed in passing: no answer, 429, 502, 503 and 504, at most `attempts` times, after
 * the server's Retry-After or a random, growing delay. No try can create a second key: a creation
 * carries an Idempotency-Key, which stays the same over its tries.
 */

export type AiType = 'OPENAI' | 'GOOGLE' | 'ANTHROPIC' | 'AWS' | 'OTHER';

export type ClientOptions = {
  /** Where the service is, such as `https://keys.example`. */
  readonly baseUrl: string;
  /** A bearer token, or what gives one: it is asked before every try. */
  readonly token: string | (() => string | Promise<string>);
  /** Tries of a call, the first one included. */
  readonly attempts?: number;
  /** Limit of one try in milliseconds. */
  readonly timeoutMs?: number;
};

export type CallOptions = { readonly signal?: AbortSignal };
export type CreateOptions = CallOptions & {
  /** Makes one key of all calls with it, in this process or another; made for each call if there is none. */
  readonly idempotencyKey?: string;
};
export type ListOptions = CallOptions & {
  /** The `position` of a change that the list must show. */
  readonly minPosition?: string;
};

/** Where a change is in the log; null from a server that does not tell. */
export type Positioned = { readonly position: string | null };
export type CreatedApiKey = Positioned & {
  readonly success: true;
  readonly id: string;
  readonly key: string;
  /** It is never told again. */
  readonly secret: string;
};
export type ApiKey = {
  readonly id: string;
  readonly name: string;
  readonly repoId: string;
  readonly key: string;
  readonly aiType: AiType;
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly status: 'active' | 'deleted' | 'unavailable';
};
export type ApiKeyList = { readonly success: true; readonly apiKeys: readonly ApiKey[] };
export type Done = Positioned & { readonly success: true; readonly message: string };

export type Client = {
  createRepoAiApiKey(
    repoId: string,
    key: { readonly name: string; readonly aiType: AiType },
    options?: CreateOptions,
  ): Promise<CreatedApiKey>;
  getRepoAiApiKeys(repoId: string, options?: ListOptions): Promise<ApiKeyList>;
  updateRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    change: { readonly name?: string },
    options?: CallOptions,
  ): Promise<Done>;
  /** A deletion whose first try got no answer and whose next finds no key is done. */
  deleteRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;
};

/** What the service answered, or why there is no answer (status 0, code NETWORK or TIMEOUT). */
export class KeyledgerClientError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string | null;
  /** The key that an Idempotency-Key made, if that is what stands in the way. */
  readonly id: string | null;

  constructor(status: number, answer: Answer, options?: ErrorOptions) {
    super(answer.message ?? `The service answered ${status}`, options);
    this.name = 'KeyledgerClientError';
    this.status = status;
    this.code = answer.code ?? `HTTP_${status}`;
    this.requestId = answer.requestId ?? null;
    this.id = answer.id ?? null;
  }
}

type Answer = { message?: string; code?: string; requestId?: string; id?: string };
type Call = {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: object;
  signal?: AbortSignal | undefined;
};

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;
const PASSING = [0, 429, 502, 503, 504];

export function createClient({ baseUrl, token, attempts = 4, timeoutMs = 10_000 }: ClientOptions): Client {
  const keys = (repoId: string) => `/repo/${encodeURIComponent(repoId)}/ai/apikey`;
  const one = (repoId: string, apikeyId: string) => `${keys(repoId)}/${encodeURIComponent(apikeyId)}`;

  /**
   * @param gone what a 404 means after a try whose outcome is unknown
   * @throws KeyledgerClientError, or the reason of the caller's signal
   */
  async function call<T>(request: Call, gone?: T & Positioned): Promise<T & Positioned> {
    let unanswered = false;
    for (let attempt = 1; ; attempt++) {
      request.signal?.throwIfAborted();
      try {
        return await send<T>(request);
      } catch (error) {
        if (!(error instanceof KeyledgerClientError)) throw error;
        if (unanswered && gone && error.status === 404) return gone;
        if (!PASSING.includes(error.status) || attempt >= attempts) throw error;
        unanswered ||= error.status !== 429;
        await wait(retryDelay(attempt, retryAfter.get(error), Math.random()), request.signal);
      }
    }
  }

  async function send<T>({ method, path, headers, body, signal }: Call): Promise<T & Positioned> {
    const authorization = `Bearer ${typeof token === 'function' ? await token() : token}`;
    const limit = AbortSignal.timeout(timeoutMs);
    let response: Response;
    let text: string;
    try {
      response = await fetch(baseUrl.replace(/\/+$/, '') + path, {
        method,
        headers: { authorization, ...headers, ...(body ? { 'content-type': 'application/json' } : {}) },
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      text = await response.text();
    } catch (cause) {
      signal?.throwIfAborted();
      const code = limit.aborted ? 'TIMEOUT' : 'NETWORK';
      throw new KeyledgerClientError(0, { code, message: `No answer from the service (${code})` }, { cause });
    }
    const answer = parsed(text);
    if (response.ok && answer)
      return { ...(answer as T), position: response.headers.get('keyledger-position') };
    const error = new KeyledgerClientError(response.ok ? 502 : response.status, answer ?? {});
    retryAfter.set(error, response.headers.get('retry-after'));
    throw error;
  }

  return {
    createRepoAiApiKey: (repoId, body, { idempotencyKey = crypto.randomUUID(), signal } = {}) =>
      call({
        method: 'POST',
        path: keys(repoId),
        body,
        headers: { 'idempotency-key': idempotencyKey },
        signal,
      }),
    getRepoAiApiKeys: (repoId, { minPosition, signal } = {}) => {
      const headers = minPosition === undefined ? {} : { 'keyledger-min-position': minPosition };
      return call({ method: 'GET', path: keys(repoId), headers, signal });
    },
    updateRepoAiApiKey: (repoId, apikeyId, body, { signal } = {}) =>
      call({ method: 'PUT', path: one(repoId, apikeyId), body, signal }),
    deleteRepoAiApiKey: (repoId, apikeyId, { signal } = {}) =>
      call(
        { method: 'DELETE', path: one(repoId, apikeyId), signal },
        { success: true, message: 'API key deleted', position: null },
      ),
  };
}

/** What the server said about the next try, beside the error that callers see. */
const retryAfter = new WeakMap<KeyledgerClientError, string | null>();

/**
 * Milliseconds to wait before the next try: what Retry-After says (seconds, or a date, RFC 9110
 * section 10.2.3), else a random part of a limit that doubles with every try; ten seconds at most.
 * @param random from 0 to 1
 */
export function retryDelay(
  attempt: number,
  header: string | null | undefined,
  random: number,
  now = Date.now(),
): number {
  const seconds = header?.trim() ? Number(header) : Number.NaN;
  const date = header ? Date.parse(header) : Number.NaN;
  const asked = Number.isFinite(seconds) ? seconds * 1000 : date - now;
  const delay = Number.isFinite(asked) ? asked : random * FIRST_DELAY_MS * 2 ** attempt;
  return Math.min(Math.max(delay, 0), LONGEST_DELAY_MS);
}

function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

function parsed(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
