import type { FastifyReply } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';

/** A reader that does not accept sent data within this time is cut off. */
const SLOW_READER_TIMEOUT_MS = 30_000;
/** How long the last message waits for a slow reader. */
const FINAL_MESSAGE_TIMEOUT_MS = 30_000;
/** How long EventSource waits before it reconnects. */
const RETRY_MS = 1000;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** One message; without an event name EventSource calls it a `message`. */
export const formatMessage = ({ event, id, data }: { event?: string; id?: string; data: string }): string =>
  `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}data: ${data}\n\n`;

/** Messages to send next, and how far in the log they reach, if a reader can resume from there. */
export type StreamBatch = {
  readonly messages: readonly string[];
  readonly position: Position | undefined;
  /** The log held no more when this was read. */
  readonly caughtUp: boolean;
};

export type HeartbeatSource = {
  /** Longest time between two heartbeats, in milliseconds. */
  readonly everyMs: number;
  /** Seconds since the instance last knew that the log holds no more. */
  readonly staleness: () => number;
  /** The resume token of a reader at a position. */
  readonly resumeTokenAt: (position: Position) => Promise<string>;
};

/** Characters per write. */
const CHUNK_LENGTH = 64 * 1024;

function* joinMessages(messages: readonly string[]): Generator<string> {
  let chunk = '';
  for (const text of messages) {
    chunk += text;
    if (chunk.length < CHUNK_LENGTH) continue;
    yield chunk;
    chunk = '';
  }
  if (chunk !== '') yield chunk;
}

/**
 * One answer as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). It buffers only
 * the one text that the reader has not accepted yet. A last message, `end`, says why it ends.
 */
export class EventStream {
  readonly #raw: FastifyReply['raw'];
  readonly #slowReaderTimeoutMs: number;
  readonly #closed = new AbortController();
  readonly #beganAt = performance.now();

  /**
   * Begins the answer.
   * @param tokenMs for how long the caller's token is valid, which limits the stream (milliseconds)
   * @param stopping aborted when the service stops
   */
  constructor(
    reply: FastifyReply,
    tokenMs: number,
    stopping: AbortSignal,
    slowReaderTimeoutMs = SLOW_READER_TIMEOUT_MS,
  ) {
    this.#raw = reply.raw;
    this.#slowReaderTimeoutMs = slowReaderTimeoutMs;
    const stop = () => this.end(new KeyledgerError('UNAVAILABLE', { message: STOPPING_MESSAGE }));
    const expire = () => this.end(new KeyledgerError('UNAUTHENTICATED', { message: TOKEN_EXPIRED_MESSAGE }));
    const timer = setTimeout(expire, Math.min(tokenMs, MAX_TIMER_MS));
    stopping.addEventListener('abort', stop);
    this.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      stopping.removeEventListener('abort', stop);
    });
    this.#raw.once('close', () => this.#closed.abort());
    reply.hijack();
    if (this.#raw.destroyed) {
      // The connection has closed already, and writing to it would raise an error that nothing handles.
      this.#closed.abort();
      return;
    }
    // This class limits slow readers itself, and lets the stream be silent.
    this.#raw.socket?.setNoDelay(true).setTimeout(0);
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream',
      // Keeps a proxy from buffering: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
      'x-accel-buffering': 'no',
    });
    this.#raw.write(`retry: ${RETRY_MS}\n\n`);
    if (stopping.aborted) stop();
  }

  /** Aborted when nothing more can be sent. */
  get signal(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * Sends batches until they or the reader end; `caught-up` when the reader has everything, and a `heartbeat` at least
   * every `everyMs`, the first at once: after it a reader that named no position can resume where it began.
   */
  async follow(
    batches: AsyncIterable<StreamBatch>,
    { everyMs, staleness, resumeTokenAt }: HeartbeatSource,
  ): Promise<void> {
    let hasCaughtUp = false;
    let lastHeartbeatAt = Number.NEGATIVE_INFINITY;
    try {
      for await (const { messages, position, caughtUp } of batches) {
        if (this.signal.aborted) return;
        // Read before sending, which may take long: it holds for this batch.
        const age = caughtUp ? staleness() : null;
        const elapsed = (performance.now() - this.#beganAt) / 1000;
        for (const chunk of joinMessages(messages)) await this.send(chunk);
        const isDue = (caughtUp && !hasCaughtUp) || performance.now() - lastHeartbeatAt >= everyMs;
        if (position === undefined || !isDue) continue;
        const event = caughtUp && !hasCaughtUp ? 'caught-up' : 'heartbeat';
        const id = await resumeTokenAt(position);
        await this.send(formatMessage({ event, id, data: JSON.stringify({ position: id, staleness: age, elapsed }) }));
        hasCaughtUp ||= caughtUp;
        lastHeartbeatAt = performance.now();
      }
    } catch (cause) {
      this.end(cause instanceof KeyledgerError ? cause : new KeyledgerError('UNAVAILABLE', { cause }));
    }
  }

  /** Sends a text, and waits until the reader can accept more, or the stream has ended. */
  async send(text: string): Promise<void> {
    if (this.signal.aborted || this.#raw.write(text)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#raw.off('drain', done);
        this.signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(() => this.end(new KeyledgerError('TOO_SLOW')), this.#slowReaderTimeoutMs);
      this.#raw.on('drain', done);
      this.signal.addEventListener('abort', done);
    });
  }

  /** Ends the stream with a last message, for which it waits a limited time. */
  end({ code, message: why }: KeyledgerError): void {
    if (this.signal.aborted) return;
    this.#raw.end(formatMessage({ event: 'end', data: JSON.stringify({ code, message: why }) }));
    const timer = setTimeout(() => this.#raw.destroy(), FINAL_MESSAGE_TIMEOUT_MS).unref();
    this.#raw.once('close', () => clearTimeout(timer));
    this.#closed.abort();
  }
}

const RESUME_HINT = 'connect again with the last id as Last-Event-ID to miss nothing';
const STOPPING_MESSAGE = `This instance stops; ${RESUME_HINT}`;
const TOKEN_EXPIRED_MESSAGE = `The token has expired: with a new one, ${RESUME_HINT}`;
