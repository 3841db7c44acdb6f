/** Any stream of the service, over as many connections as it takes. */
import { KeyledgerClientError } from './error.js';
import { eventStreamParser, type Message } from './event-stream-parser.js';
import { isRetryable, retryDelay, wait } from './retry.js';
import type { Open, OpenStream } from './transport.js';

/** What gives tokens may go by a clock that is behind: for so long after a stream that was accepted (milliseconds). */
const TOKEN_RETRY_MS = 60_000;
const FIRST_TOKEN_RETRY_MS = 1000;

/** @property askedAt when the connection was asked for that brought it (performance.now()) */
export type FollowedMessage = Message & { readonly askedAt: number };

/**
 * @property after where it begins
 * @property silentMs longest silence of a connection while the reader waits for more (milliseconds)
 * @property onRetry receives the error of each connection that could not be made, before the next attempt
 */
export type FollowOptions = {
  readonly after: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly silentMs: number;
  readonly onRetry?: (error: KeyledgerClientError) => void;
};

/**
 * Every message: after a failure it connects again behind the last id that it has handed over. Nothing is read before
 * it is asked for.
 * @param pathFrom what is opened to go on behind an id
 * @throws KeyledgerClientError the service will not have it; the signal's reason; what the token function threw
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
        // Of a mark, too: it is as far as the service has looked, and all before it has been handed over.
        const next = message.lastId === '' ? id : message.lastId;
        // A connection that brings nothing on is a failure, though it begins well each time.
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

/** Whoever waits for events has time: for a service that has a fault, too. */
const isRetryableForStream = (error: KeyledgerClientError): boolean =>
  isRetryable(error) || error.status >= 500;

/** What one connection brings, until it ends, breaks or falls silent. */
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

/** Undefined if there is none, or none in time. @throws the reason of the signal as soon as it is aborted */
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
