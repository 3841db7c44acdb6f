/** Any stream of the service, over as many connections as it takes. */
import { KeyledgerClientError } from './error.js';
import { eventStreamParser, type Message } from './event-stream-parser.js';
import { isPassing, retryDelay, wait } from './retry.js';
import type { Open, StreamBody } from './transport.js';

/**
 * Every message: after a failure it connects again behind the last id that it has handed over. Nothing is read before
 * it is asked for.
 * @param pathFrom what is opened to go on behind an id
 * @param after where it begins
 * @param silentMs for how long a connection may be silent while more is asked for
 * @throws KeyledgerClientError the service will not have it; the signal's reason; what the token function threw
 */
export async function* followMessages(
  open: Open,
  pathFrom: (id: string | undefined) => string,
  after: string | undefined,
  signal: AbortSignal | undefined,
  silentMs: number,
): AsyncGenerator<Message, void, void> {
  let id = after;
  for (let failures = 0; ; ) {
    let retryAfterMs: number | null = null;
    try {
      for await (const message of messagesOf(await open(pathFrom(id), signal), signal, silentMs)) {
        failures = 0;
        if (message.event === 'end') break;
        // Of a mark, too: it is as far as the service has looked, and all before it has been handed over.
        if (message.lastId !== '') id = message.lastId;
        yield message;
      }
    } catch (error) {
      if (!(error instanceof KeyledgerClientError) || !mayPass(error)) throw error;
      retryAfterMs = error.retryAfterMs;
    }
    await wait(retryDelay(++failures, retryAfterMs, Math.random()), signal);
  }
}

/** Whoever waits for events has time: for a service that has a fault, too. */
const mayPass = (error: KeyledgerClientError): boolean => isPassing(error) || error.status >= 500;

/** What one connection brings, until it ends, breaks or falls silent. */
async function* messagesOf(
  body: StreamBody,
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
