/** Calls over HTTP: attempts, timeouts, and the meaning of answers; and opening of streams. */
import { KeyledgerClientError } from './error.js';
import type { ClientOptions } from './options.js';
import { rejectUnknown } from './reject-unknown.js';
import { failure, jsonObject } from './response.js';
import { isRetryable, retryDelay, wait } from './retry.js';

export type Call = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly signal: AbortSignal | undefined;
  readonly body?: object;
  readonly idempotencyKey?: string;
  readonly minPosition?: string | undefined;
  /** Neither request the client's token nor send it. */
  readonly withoutToken?: true;
};

export type Answer<T> = { readonly answer: T; readonly headers: Headers };

type StreamBody = NonNullable<Response['body']>;
/** @property askedAt when the client requested the stream (performance.now()) */
export type OpenStream = { readonly body: StreamBody; readonly askedAt: number };
/**
 * Opens an event stream. The caller cancels it, and reopens it when it ends.
 * @param tokenRetryMs for how long to retry with new tokens after a refused one (milliseconds)
 */
export type Open = (path: string, signal: AbortSignal | undefined, tokenRetryMs: number) => Promise<OpenStream>;

const EVENT_STREAM = 'text/event-stream';
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Creates the functions that make the calls of one client.
 * @throws TypeError, RangeError invalid options
 */
export function createTransport({ baseUrl, token, attempts = 4, timeoutMs = 10_000, ...others }: ClientOptions) {
  rejectUnknown(others);
  const root = normalizeBaseUrl(baseUrl);
  if (!Number.isInteger(attempts) || attempts < 1) {
    throw new RangeError('attempts must be a whole number of at least 1');
  }
  if (!(timeoutMs >= 1 && timeoutMs <= MAX_TIMER_MS)) {
    throw new RangeError(`timeoutMs must be from 1 to ${MAX_TIMER_MS}`);
  }

  async function call<T>(request: Call): Promise<Answer<T>> {
    const body = request.body && JSON.stringify(request.body);
    for (let attempt = 1; ; attempt++) {
      try {
        return await withTimeout(timeoutMs, request, (signal) => send<T>(request, body, signal));
      } catch (error) {
        if (!(error instanceof KeyledgerClientError)) throw error;
        if (!isRetryable(error) || attempt === attempts) throw error;
        await wait(retryDelay(attempt, error.retryAfterMs, Math.random()), request.signal);
      }
    }
  }

  async function open(path: string, signal: AbortSignal | undefined, tokenRetryMs: number): Promise<OpenStream> {
    const request: Call = { method: 'GET', path, signal };
    const giveUpAt = performance.now() + tokenRetryMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await withTimeout(timeoutMs, request, (limit) => openOnce(request, limit));
      } catch (error) {
        // The service ends a stream when its token expires; the token function may consider that token valid for
        // longer.
        const mayBeOld = typeof token === 'function' && performance.now() < giveUpAt;
        if (!(error instanceof KeyledgerClientError && error.status === 401 && mayBeOld)) throw error;
        await wait(retryDelay(attempt, error.retryAfterMs, Math.random()), signal);
      }
    }
  }

  async function openOnce(request: Call, signal: AbortSignal): Promise<OpenStream> {
    const { response, askedAt, sentToken } = await ask(
      request,
      undefined,
      new Headers({ accept: EVENT_STREAM }),
      signal,
    );
    const { ok, body, headers } = response;
    if (ok && body && headers.get('content-type')?.startsWith(EVENT_STREAM)) return { body, askedAt };
    const answer = jsonObject(await mapNetworkError(response.text(), request, signal)) ?? {};
    throw failure(response, answer, request.idempotencyKey, sentToken);
  }

  async function send<T>(request: Call, body: string | undefined, signal: AbortSignal): Promise<Answer<T>> {
    const { response, sentToken } = await ask(request, body, new Headers(), signal);
    const answer = jsonObject(await mapNetworkError(response.text(), request, signal));
    if (!response.ok || answer?.['success'] !== true) {
      throw failure(response, answer ?? {}, request.idempotencyKey, sentToken);
    }
    return { answer: answer as T, headers: response.headers };
  }

  async function ask(
    request: Call,
    body: string | undefined,
    headers: Headers,
    signal: AbortSignal,
  ): Promise<{ response: Response; askedAt: number; sentToken: string | undefined }> {
    const { method, path, idempotencyKey, minPosition } = request;
    let sentToken: string | undefined;
    if (!request.withoutToken) {
      sentToken = typeof token === 'function' ? await rejectWhenAborted(token, signal) : token;
      headers.set('authorization', bearer(sentToken));
    }
    if (body !== undefined) headers.set('content-type', 'application/json');
    if (idempotencyKey !== undefined) headers.set('idempotency-key', idempotencyKey);
    if (minPosition !== undefined) headers.set('keyledger-min-position', minPosition);
    // Following a redirect would change the method (302), or send the secret to another server.
    const init = {
      method,
      headers,
      signal,
      redirect: 'manual',
      ...(body === undefined ? {} : { body }),
    } as const;
    const askedAt = performance.now();
    return { response: await mapNetworkError(fetch(root + path, init), request, signal), askedAt, sentToken };
  }

  return { call, open };
}

/** @throws KeyledgerClientError NETWORK */
async function mapNetworkError<T>(answering: Promise<T>, { idempotencyKey }: Call, signal: AbortSignal): Promise<T> {
  try {
    return await answering;
  } catch (cause) {
    if (signal.aborted) throw cause;
    const message = `No answer from the service: ${cause}`;
    throw new KeyledgerClientError(0, 'NETWORK', message, { idempotencyKey, cause });
  }
}

/** Base URL of all paths; in a browser it may be relative to the page. */
function normalizeBaseUrl(baseUrl: string): string {
  let url = '';
  try {
    url = new Request(baseUrl).url;
  } catch {
    // Does not pass the error on: it may quote a password in the URL.
  }
  if (!/^https?:[^?#]*$/.test(url)) {
    throw new TypeError('baseUrl must be an http(s) URL without credentials, query or fragment');
  }
  return url.replace(/\/+$/, '');
}

/** Checks the token here, because fetch would quote an invalid one in its error. */
function bearer(token: string): string {
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token.trim())) {
    throw new TypeError('The token must be a non-empty string without white space');
  }
  return `Bearer ${token.trim()}`;
}

/**
 * Runs one attempt, whose signal aborts after `ms` milliseconds or with the caller's. Does not use AbortSignal.any,
 * which not every runtime has and some do not free.
 * @throws what the attempt throws, KeyledgerClientError TIMEOUT, or the reason of the caller's signal
 */
async function withTimeout<T>(
  ms: number,
  { signal, idempotencyKey }: Call,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const limit = new AbortController();
  const abort = () => limit.abort();
  const timer = setTimeout(abort, ms);
  signal?.addEventListener('abort', abort);
  try {
    return await run(limit.signal);
  } catch (cause) {
    if (!limit.signal.aborted) throw cause;
    signal?.throwIfAborted();
    throw new KeyledgerClientError(0, 'TIMEOUT', `No answer within ${ms} ms`, { idempotencyKey, cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function rejectWhenAborted<T>(give: () => T | Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    Promise.resolve(give()).then(resolve, reject);
  });
}
