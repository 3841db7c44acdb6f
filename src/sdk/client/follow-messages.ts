/** Any stream of the service, over any number of connections. */
import { KeyledgerClientError } from './error.js';
import { eventStreamParser, type Message } from './event-stream-parser.js';
import { isRetryable, retryDelay, wait } from './retry.js';
import type { Open, OpenStream } from './transport.js';

/**
 * Time after a stream was accepted during which the client retries a refused token: the token function may go by a
 * clock that is slow (milliseconds).
 */
const TOKEN_RETRY_MS = 60_000;
const FIRST_TOKEN_RETRY_MS = 1000;

/** @property askedAt when the client requested the connection that delivered the message (performance.now()) */
type FollowedMessage = Message & { readonly askedAt: number };

/**
 * @property after id after which the stream starts
 * @property silentMs longest silence of a connection while the reader waits for more (milliseconds)
 * @property onRetry receives the error of each failed connection, before the next attempt
 */
type FollowOptions = {
  readonly after: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly silentMs: number;
  readonly onRetry?: (error: KeyledgerClientError) => void;
};

/**
 * Yields every message: after a failure it reconnects after the last id that it has yielded. It reads only on demand.
 * @param pathFrom path that resumes after an id
 * @throws KeyledgerClientError the service refuses the request; the signal's reason; the error of the token function
 */
export async function* followMessages(
  open: Open,
  pathFrom: (id: string | undefined) => string,
  { after, signal, silentMs, onRetry }: FollowOptions,
): AsyncGenerator<FollowedMessage, void, void> {
  let id = after;
  let tokenRetryMs = FIRST_TOKEN_RETRY_MS;
  for (let failures = 0; ; ) {
    let retryAfterMs: number | null = null;
    try {
      const { body, askedAt } = await open(pathFrom(id), signal, tokenRetryMs);
      tokenRetryMs = TOKEN_RETRY_MS;
      for await (const message of messagesOf(body, signal, silentMs)) {
        if (message.event === 'end') break;
        // The id of a `heartbeat` or `caught-up` counts, too: the service has read the log up to it, and has sent all
        // events before it.
        const next = message.lastId === '' ? id : message.lastId;
        // A connection without progress is a failure, even if it starts well each time.
        if (next !== id || message.event === 'caught-up') failures = 0;
        id = next;
        yield { ...message, askedAt };
      }
    } catch (error) {
      if (!(error instanceof KeyledgerClientError) || !isRetryableForStream(error)) throw error;
      retryAfterMs = error.retryAfterMs;
      onRetry?.(error);
    }
    await wait(retryDelay(++failures, retryAfterMs, Math.random()), signal);
  }
}

/** A subscriber can wait, so it also retries faults of the service. */
const isRetryableForStream = (error: KeyledgerClientError): boolean => isRetryable(error) || error.status >= 500;

/** Messages of one connection, until it ends, breaks or falls silent. */
async function* messagesOf(
  body: OpenStream['body'],
  signal: AbortSignal | undefined,
  silentMs: number,
): AsyncGenerator<Message, void, void> {
  const parse = eventStreamParser();
  const reader = body.getReader();
  try {
    for (;;) {
      const piece = await nextPiece(reader, signal, silentMs);
      if (piece === undefined) return;
      for (const message of parse(piece)) {
        signal?.throwIfAborted();
        yield message;
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/**
 * Reads the next piece; undefined if the stream has ended, or is silent for too long.
 * @throws the reason of the signal as soon as it aborts
 */
function nextPiece(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  signal: AbortSignal | undefined,
  silentMs: number,
): Promise<Uint8Array | undefined> {
  return new Promise((resolve, reject) => {
    const end = (piece: Uint8Array | undefined) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', endWithout);
      if (signal?.aborted) reject(signal.reason);
      else resolve(piece);
    };
    const endWithout = () => end(undefined);
    const timer = setTimeout(endWithout, silentMs);
    signal?.addEventListener('abort', endWithout);
    if (signal?.aborted) endWithout();
    else reader.read().then(({ value }) => end(value), endWithout);
  });
}
