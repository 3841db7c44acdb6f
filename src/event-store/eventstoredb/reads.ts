import type {
  AllStreamRecordedEvent,
  AllStreamResolvedEvent,
  AllStreamSubscription,
  StreamingRead,
} from '@eventstore/db-client';
import { withTimeout } from './retry.js';

/** Events that a page holds at most, and that wait in memory before the server is held back. */
export const BATCH_SIZE = 512;

/** As much of a readable stream as is used; the client's types are those of an older Node. */
type Stream = {
  on(event: string, listener: (...args: never[]) => void): unknown;
  removeAllListeners(event: string): unknown;
  read(): unknown;
  resume(): unknown;
};

/** What has arrived on a stream of the client and is not taken yet. */
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

  /** Resolves when something has happened. To be called only where nothing is left to take. */
  change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake();
  }

  /** Drained, and not destroyed: else the client would wait for the end of the call when it is disposed of. */
  close(): void {
    this.#cancel().catch(() => {});
    this.#stream.removeAllListeners('readable');
    this.#stream.resume();
  }
}

/** The events of a read. @throws TimeoutError nothing came for that time while somebody waited for it */
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

export type ReceivedBatch = {
  readonly events: readonly AllStreamRecordedEvent[];
  readonly caughtUp: boolean;
};

/**
 * What a subscription brings, in pages of all that has arrived. The first one comes when there is
 * something, or when nothing is left to come. Ends with the signal; throws when the subscription breaks.
 */
export async function* subscriptionBatches(
  subscription: AllStreamSubscription,
  signal: AbortSignal,
): AsyncIterable<ReceivedBatch> {
  const buffer = new StreamBuffer<AllStreamResolvedEvent>(subscription, () => subscription.unsubscribe());
  let taken = 0;
  /** Caught up once so many are taken: the server says so while events before it wait to be taken. */
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

/** What was not written as JSON stays text, which no schema takes. */
export const parseJsonOrText = (value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString() : (value ?? null);
