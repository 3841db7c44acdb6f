import type { FastifyReply } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';

/** A reader that has not taken what was sent to it in so long is cut off (milliseconds). */
const SLOW_MS = 30_000;
/** The last message waits so long for a reader to take it. */
const LAST_MS = 30_000;
/** What EventSource waits before it connects again. */
const RETRY_MS = 1000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** One message. Without an event name it is what EventSource calls a `message`. */
export const message = ({ event, id, data }: { event?: string; id?: string; data: string }): string =>
  `${event === undefined ? '' : `event: ${event}\n`}${id === undefined ? '' : `id: ${id}\n`}data: ${data}\n\n`;

/** What is to be sent next, and how far in the log that is, if a reader can go on from there. */
export type Followed = {
  readonly messages: readonly string[];
  readonly position: Position | undefined;
  /** There was no more when this was read. */
  readonly caughtUp: boolean;
};

/** How a reader is told where it is. */
export type Marks = {
  /** At least so often, in milliseconds. */
  readonly everyMs: number;
  /** For how many seconds it has not been known that there is no more. */
  readonly staleness: () => number;
  /** What a reader at a position goes on with. */
  readonly resumeTokenAt: (position: Position) => Promise<string>;
};

/** Characters that are sent at once. */
const PIECE = 64 * 1024;

function* pieces(messages: readonly string[]): Generator<string> {
  let piece = '';
  for (const text of messages) {
    piece += text;
    if (piece.length < PIECE) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

/**
 * One answer as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). No more is
 * held for a reader than the one text that it has not taken yet. Whatever ends it says so in a last message, `end`.
 */
export class EventStream {
  readonly #raw: FastifyReply['raw'];
  readonly #slowMs: number;
  readonly #over = new AbortController();
  readonly #beganAt = performance.now();

  /**
   * Begins the answer.
   * @param tokenMs for how long the caller's token is good; the stream lives no longer (milliseconds)
   * @param stopping aborted when the service stops
   */
  constructor(reply: FastifyReply, tokenMs: number, stopping: AbortSignal, slowMs = SLOW_MS) {
    this.#raw = reply.raw;
    this.#slowMs = slowMs;
    const stop = () => this.end(new KeyledgerError('UNAVAILABLE', { message: STOPS }));
    const expire = () => this.end(new KeyledgerError('UNAUTHENTICATED', { message: EXPIRED }));
    const timer = setTimeout(expire, Math.min(tokenMs, LONGEST_TIMER_MS));
    stopping.addEventListener('abort', stop);
    this.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      stopping.removeEventListener('abort', stop);
    });
    this.#raw.once('close', () => this.#over.abort());
    reply.hijack();
    if (this.#raw.destroyed) {
      // Gone before it began: it has been closed already, and to write to it would be an error that nobody hears.
      this.#over.abort();
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
    return this.#over.signal;
  }

  /**
   * Sends what comes until one of both ends; `caught-up` when the reader has all that there was, and at least so often
   * a `heartbeat`, the first at once: from then on a reader that named no position can go on where it began.
   */
  async follow(pages: AsyncIterable<Followed>, { everyMs, staleness, resumeTokenAt }: Marks): Promise<void> {
    let hasCaughtUp = false;
    let markedAt = Number.NEGATIVE_INFINITY;
    try {
      for await (const { messages, position, caughtUp } of pages) {
        if (this.signal.aborted) return;
        // Asked before anything is sent: it holds for this page, and sending may take its time.
        const age = caughtUp ? staleness() : null;
        const elapsed = (performance.now() - this.#beganAt) / 1000;
        for (const piece of pieces(messages)) await this.send(piece);
        const isDue = (caughtUp && !hasCaughtUp) || performance.now() - markedAt >= everyMs;
        if (position === undefined || !isDue) continue;
        const event = caughtUp && !hasCaughtUp ? 'caught-up' : 'heartbeat';
        const id = await resumeTokenAt(position);
        await this.send(
          message({ event, id, data: JSON.stringify({ position: id, staleness: age, elapsed }) }),
        );
        hasCaughtUp ||= caughtUp;
        markedAt = performance.now();
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
      const timer = setTimeout(() => this.end(new KeyledgerError('TOO_SLOW')), this.#slowMs);
      this.#raw.on('drain', done);
      this.signal.addEventListener('abort', done);
    });
  }

  /** Ends it with a last message, which is not waited for without end. */
  end({ code, message: why }: KeyledgerError): void {
    if (this.signal.aborted) return;
    this.#raw.end(message({ event: 'end', data: JSON.stringify({ code, message: why }) }));
    const timer = setTimeout(() => this.#raw.destroy(), LAST_MS).unref();
    this.#raw.once('close', () => clearTimeout(timer));
    this.#over.abort();
  }
}

const GO_ON = 'connect again with the last id as Last-Event-ID, and nothing is missed';
const STOPS = `This instance stops; ${GO_ON}`;
const EXPIRED = `The token has expired: with a new one, ${GO_ON}`;
