/** The feed: one stream of events over as many connections as it takes. */
import { KeyledgerClientError } from './error.js';
import { eventStreamParser, type Message } from './event-stream-parser.js';
import type { EventsOptions, KeyledgerEvent } from './event-types.js';
import { query } from './paths.js';
import { isPassing, retryDelay, wait } from './retry.js';
import type { Open, StreamBody } from './transport.js';

/** The service sends a heartbeat every 15 seconds: after more than two of them that did not come nobody is there. */
const SILENT_MS = 45_000;

/**
 * Every event, in order, each once: after a failure it connects again behind what it has handed over last. Nothing is
 * read before it is asked for.
 * @param silentMs for how long a connection may be silent while more is asked for
 * @throws KeyledgerClientError the service will not have it; the signal's reason; what the token function threw
 */
export async function* followEvents(
  open: Open,
  { after, repo, types, signal }: EventsOptions,
  silentMs = SILENT_MS,
): AsyncGenerator<KeyledgerEvent, void, void> {
  let position = after;
  for (let failures = 0; ; ) {
    let retryAfterMs: number | null = null;
    try {
      const path = `/events${query({ after: position, repo, type: types?.join() })}`;
      for await (const { event, data, lastId } of messagesOf(await open(path, signal), signal, silentMs)) {
        failures = 0;
        if (event === 'end') break;
        // Of a mark, too: it is as far as the service has looked, and all before it has been handed over.
        if (lastId !== '') position = lastId;
        if (event === 'message') yield eventOf(data);
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

function eventOf(data: string): KeyledgerEvent {
  try {
    const event = JSON.parse(data) as KeyledgerEvent;
    if (typeof event.position === 'string') return event;
  } catch {
    // Said below.
  }
  throw new KeyledgerClientError(200, 'BAD_ANSWER', 'This is no event of Keyledger; is baseUrl right?');
}
