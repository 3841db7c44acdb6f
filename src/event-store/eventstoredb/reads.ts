import type {
  AllStreamRecordedEvent,
  AllStreamResolvedEvent,
  AllStreamSubscription,
  StreamingRead,
} from '@eventstore/db-client';
import { withTimeout } from './retry.js';

/**
 * Events in a batch, and events buffered before the client applies back-pressure. The client counts events, not
 * bytes, and one may have a mebibyte; with 512 a subscription catches up no faster.
 */
export const BATCH_SIZE = 64;

/** The part of a readable stream that is used here; the client's types are those of an older Node. */
type Stream = {
  on(event: string, listener: (...args: never[]) => void): unknown;
  removeAllListeners(event: string): unknown;
  read(): unknown;
  resume(): unknown;
};

/** The events that have arrived on a stream of the client and were not taken yet. */
class StreamBuffer<T> {
  readonly #stream: Stream;
  readonly #cancel: () => Promise<void>;
  #wake = () => {};
  failure: Error | undefined;
  ended = false;

  constructor(stream: Stream, cancel: () => Promise<void>) {
    this.#stream = stream;
    this.#cancel = cancel;
    const over = () => {
      this.ended = true;
      this.wake();
    };
    stream.on('readable', () => this.wake());
    stream.on('end', over);
    stream.on('close', over);
    stream.on('error', (error: Error) => {
      this.failure ??= error;
      this.wake();
    });
  }

  take(): T[] {
    const taken: T[] = [];
    while (taken.length < BATCH_SIZE) {
      const one = this.#stream.read() as T | null;
      if (one === null) break;
      taken.push(one);
    }
    return taken;
  }

  /** Resolves at the next event, failure or end. Call it only when nothing is left to take. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake();
  }

  /**
   * Drains the stream instead of destroying it, after which the client's dispose would wait for the end of the call.
   */
  close(): void {
    this.#cancel().catch(() => {});
    this.#stream.removeAllListeners('readable');
    this.#stream.resume();
  }
}

/** The events of a read. @throws TimeoutError the reader waited that long for the next event */
export async function* readWithTimeout<T>(read: StreamingRead<T>, limitMs: number): AsyncIterable<T> {
  const buffer = new StreamBuffer<T>(read, () => read.cancel());
  try {
    for (;;) {
      const some = buffer.take();
      yield* some;
      if (some.length > 0) continue;
      if (buffer.failure) throw buffer.failure;
      if (buffer.ended) return;
      await withTimeout(limitMs, buffer.change());
    }
  } finally {
    buffer.close();
  }
}

type ReceivedBatch = {
  readonly events: readonly AllStreamRecordedEvent[];
  readonly caughtUp: boolean;
};

/**
 * The events of a subscription, in batches of all that have arrived, and a batch when the subscription catches up, if
 * only an empty one. Ends with the signal.
 * @throws Error the subscription failed or ended
 */
export async function* subscriptionBatches(
  subscription: AllStreamSubscription,
  signal: AbortSignal,
): AsyncIterable<ReceivedBatch> {
  const buffer = new StreamBuffer<AllStreamResolvedEvent>(subscription, () => subscription.unsubscribe());
  let taken = 0;
  /** Number of events taken at which the reader is caught up: the server reports it while earlier ones are buffered. */
  let caughtUpAt = Number.POSITIVE_INFINITY;
  subscription.on('caughtUp', () => {
    caughtUpAt = taken + subscription.readableLength;
    buffer.wake();
  });
  subscription.on('fellBehind', () => {
    caughtUpAt = Number.POSITIVE_INFINITY;
  });
  const aborted = () => buffer.wake();
  signal.addEventListener('abort', aborted);
  try {
    for (let reportedCaughtUp = false; !signal.aborted; ) {
      const some = buffer.take();
      taken += some.length;
      const caughtUp = taken >= caughtUpAt && subscription.readableLength === 0;
      if (some.length > 0 || (caughtUp && !reportedCaughtUp)) {
        reportedCaughtUp = caughtUp;
        yield { events: some.flatMap(({ event }) => event ?? []), caughtUp };
      } else if (buffer.failure || buffer.ended) {
        throw buffer.failure ?? new Error('The subscription ended');
      } else {
        await buffer.change();
      }
    }
  } finally {
    signal.removeEventListener('abort', aborted);
    buffer.close();
  }
}

/** Content that was not written as JSON stays text, which no schema accepts. */
export const jsonOrText = (value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString() : (value ?? null);
