import type { FastifyReply } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';

/** A reader that has not taken what was sent to it in so long is cut off (milliseconds). */
const SLOW_READER_TIMEOUT_MS = 30_000;
/** The last message waits so long for a reader to take it. */
const FINAL_MESSAGE_TIMEOUT_MS = 30_000;
/** What EventSource waits before it connects again. */
const RETRY_MS = 1000;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** One message. Without an event name it is what EventSource calls a `message`. */
export const formatMessage = ({ event, id, data }: { event?: string; id?: string; data: string }): string =>
  `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}data: ${data}\n\n`;

/** What is to be sent next, and how far in the log that is, if a reader can go on from there. */
export type StreamPage = {
  readonly messages: readonly string[];
  readonly position: Position | undefined;
  /** There was no more when this was read. */
  readonly caughtUp: boolean;
};

/** How a reader is told where it is. */
export type HeartbeatSource = {
  /** At least so often, in milliseconds. */
  readonly everyMs: number;
  /** For how many seconds it has not been known that there is no more. */
  readonly staleness: () => number;
  /** What a reader at a position goes on with. */
  readonly resumeTokenAt: (position: Position) => Promise<string>;
};

/** Characters that are sent at once. */
const CHUNK_LENGTH = 64 * 1024;

function* chunksOf(messages: readonly string[]): Generator<string> {
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
 * One answer as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). No more is
 * held for a reader than the one text that it has not taken yet. Whatever ends it says so in a last message, `end`.
 */
export class EventStream {
  readonly #raw: FastifyReply['raw'];
  readonly #slowReaderTimeoutMs: number;
  readonly #closed = new AbortController();
  readonly #beganAt = performance.now();

  /**
   * Begins the answer.
   * @param tokenMs for how long the caller's token is good; the stream lives no longer (milliseconds)
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
      // Gone before it began: it has been closed already, and to write to it would be an error that nobody hears.
      this.#closed.abort();
      return;
    }
    // How long it may be silent, and a reader slow, is said here.
    this.#raw.socket?.setNoDelay(true).setTimeout(0);
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream',
      // Not to be collected by a proxy: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
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
   * Sends what comes until one of both ends; `caught-up` when the reader has all that there was, and at least so often
   * a `heartbeat`, the first at once: from then on a reader that named no position can go on where it began.
   */
  async follow(
    pages: AsyncIterable<StreamPage>,
    { everyMs, staleness, resumeTokenAt }: HeartbeatSource,
  ): Promise<void> {
    let hasCaughtUp = false;
    let lastHeartbeatAt = Number.NEGATIVE_INFINITY;
    try {
      for await (const { messages, position, caughtUp } of pages) {
        if (this.signal.aborted) return;
        // Asked before anything is sent: it holds for this page, and sending may take its time.
        const age = caughtUp ? staleness() : null;
        const elapsed = (performance.now() - this.#beganAt) / 1000;
        for (const chunk of chunksOf(messages)) await this.send(chunk);
        const isDue = (caughtUp && !hasCaughtUp) || performance.now() - lastHeartbeatAt >= everyMs;
        if (position === undefined || !isDue) continue;
        const event = caughtUp && !hasCaughtUp ? 'caught-up' : 'heartbeat';
        const id = await resumeTokenAt(position);
        await this.send(
          formatMessage({ event, id, data: JSON.stringify({ position: id, staleness: age, elapsed }) }),
        );
        hasCaughtUp ||= caughtUp;
        lastHeartbeatAt = performance.now();
      }
    } catch (cause) {
      this.end(cause instanceof KeyledgerError ? cause : new KeyledgerError('UNAVAILABLE', { cause }));
    }
  }

  /** Sends a text, and waits until the reader can take more, or the stream is over. */
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

  /** Ends it with a last message, which is not waited for without end. */
  end({ code, message: why }: KeyledgerError): void {
    if (this.signal.aborted) return;
    this.#raw.end(formatMessage({ event: 'end', data: JSON.stringify({ code, message: why }) }));
    const timer = setTimeout(() => this.#raw.destroy(), FINAL_MESSAGE_TIMEOUT_MS).unref();
    this.#raw.once('close', () => clearTimeout(timer));
    this.#closed.abort();
  }
}

const RESUME_HINT = 'connect again with the last id as Last-Event-ID, and nothing is missed';
const STOPPING_MESSAGE = `This instance stops; ${RESUME_HINT}`;
const TOKEN_EXPIRED_MESSAGE = `The token has expired: with a new one, ${RESUME_HINT}`;
