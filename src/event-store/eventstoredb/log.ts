import { START, StreamNotFoundError, streamNameFilter } from '@eventstore/db-client';
import { KeyledgerError } from '../../domain/errors.js';
import type {
  AppendRequest,
  AppendResult,
  BulkAppendResult,
  EventBatch,
  EventStore,
  ExpectedRevision,
  NewEvent,
  RecordedEvent,
} from '../event-store.js';
import type { Position } from '../position.js';
import { serializeEvent } from '../serialize-event.js';
import { partitionForeign, STREAM_CATEGORIES } from '../streams.js';
import { appendOnce } from './append.js';
import { bulkAppend } from './bulk-append.js';
import { type Connection, connectEventStoreDb } from './connection.js';
import { disableGrpcCompression } from './disable-grpc-compression.js';
import { EventMapping, isPossible } from './event-mapping.js';
import { Heartbeat } from './heartbeat.js';
import { LogEnd } from './log-end.js';
import { ensureLogIdentity, findLogIdentity, LOG_STREAM, type LogIdentity, type WaitOptions } from './log-identity.js';
import { BATCH_SIZE, readWithTimeout, subscriptionBatches } from './reads.js';
import { warnOfRetention } from './retention.js';
import { backOffBeforeRetry, CALL_TIMEOUT_MS, retryUntilOutcomeKnown } from './retry.js';

/** Events that the server searches at once, and searches between two checkpoints. */
const SEARCH = { maxSearchWindow: 4096, checkpointInterval: 1000 };
/** How the server, or gRPC, reports that no event starts at a position. */
const NO_EVENT_THERE = /invalid ?position|exception was thrown by handler/i;

export type EventStoreDbOptions = {
  /** Called if the database holds another log than before: the process must end. */
  readonly onFatal: (error: Error) => void;
  /** Called with warnings for the operator, without credentials. */
  readonly warn: (message: string) => void;
  /** Prefix of the names of all streams of this log, so that several logs can share a server. */
  readonly prefix?: string | undefined;
  readonly wait?: WaitOptions | undefined;
};

/**
 * Opens the log in an EventStoreDB or KurrentDB; see connectEventStoreDb for the URL.
 * @throws Error it cannot be opened
 */
export async function openEventStoreDbLog(
  url: string,
  { onFatal, warn, prefix = '', wait }: EventStoreDbOptions,
): Promise<EventStore> {
  await disableGrpcCompression(warn);
  const connection = connectEventStoreDb(url);
  try {
    const identity = await ensureLogIdentity(connection, prefix + LOG_STREAM, wait);
    return new EventStoreDbLog(connection, identity, prefix, onFatal, warn);
  } catch (error) {
    await connection.client.dispose();
    throw error;
  }
}

class EventStoreDbLog implements EventStore {
  readonly logId: string;
  readonly #connection: Connection;
  readonly #mapping: EventMapping;
  readonly #start: Position;
  readonly #end: LogEnd;
  /** Prefixes of the log's streams in the database, which may also hold foreign streams. */
  readonly #prefixes: string[];
  readonly #onFatal: (error: Error) => void;
  readonly #heartbeat = new Heartbeat(() => this.#assertSameLog());
  readonly #closing = new AbortController();
  readonly #appending = new Set<Promise<unknown>>();

  constructor(
    connection: Connection,
    { logId, ...place }: LogIdentity,
    prefix: string,
    onFatal: (error: Error) => void,
    warn: (message: string) => void,
  ) {
    this.logId = logId;
    this.#connection = connection;
    this.#mapping = new EventMapping(logId, prefix);
    this.#start = this.#mapping.position(place);
    this.#end = new LogEnd(connection, this.#mapping, this.#start);
    this.#prefixes = STREAM_CATEGORIES.map((category) => prefix + category);
    this.#onFatal = onFatal;
    const streams = [...this.#prefixes, this.#mapping.stream(LOG_STREAM)];
    void warnOfRetention(connection, streams, this.#closing.signal, warn);
  }

  async append(stream: string, events: readonly NewEvent[], expected: ExpectedRevision): Promise<AppendResult> {
    if (events.length === 0) throw new RangeError('An append needs an event');
    events.forEach(serializeEvent);
    if (this.#closing.signal.aborted) {
      throw new KeyledgerError('UNAVAILABLE', { cause: new Error('The log is closed') });
    }
    const request = { stream, events, expectedRevision: expected };
    const attempt = (timeoutMs: number) => appendOnce(this.#connection, this.#mapping, request, timeoutMs);
    return this.#trackAppend(retryUntilOutcomeKnown(attempt));
  }

  async bulkAppend(appends: AsyncIterable<AppendRequest>): Promise<BulkAppendResult> {
    const client = this.#connection.connectForBatches();
    const appending = bulkAppend(client, appends, (stream) => this.#mapping.stream(stream));
    return this.#trackAppend(appending.finally(() => client.dispose()));
  }

  /** Makes `close` wait for an append. */
  async #trackAppend<T>(appending: Promise<T>): Promise<T> {
    this.#appending.add(appending);
    try {
      return await appending;
    } finally {
      this.#appending.delete(appending);
    }
  }

  async *readStream(stream: string): AsyncIterable<RecordedEvent> {
    let next = 0n;
    let giveUpAt = performance.now() + CALL_TIMEOUT_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        const { client, credentials } = this.#connection;
        const read = client.readStream(this.#mapping.stream(stream), { fromRevision: next, ...credentials });
        for await (const { event } of readWithTimeout(read, giveUpAt - performance.now())) {
          if (!event) continue;
          yield this.#mapping.recorded(event);
          next = event.revision + 1n;
          giveUpAt = performance.now() + CALL_TIMEOUT_MS;
        }
        return;
      } catch (cause) {
        if (cause instanceof StreamNotFoundError) return;
        if (!(await backOffBeforeRetry(cause, giveUpAt, attempt))) throw new KeyledgerError('UNAVAILABLE', { cause });
      }
    }
  }

  async *readAll(after?: Position, onForeign?: (event: RecordedEvent) => void): AsyncIterable<RecordedEvent> {
    for await (const { events, foreign, caughtUp } of this.#batches(after, this.#closing.signal)) {
      if (onForeign) foreign?.forEach(onForeign);
      yield* events;
      if (caughtUp) return;
    }
    throw new KeyledgerError('UNAVAILABLE', { cause: new Error('The log was closed') });
  }

  async eventAt(position: Position): Promise<RecordedEvent | undefined> {
    const fromPosition = this.#mapping.place(position);
    if (!isPossible(fromPosition)) return undefined;
    const { client, credentials } = this.#connection;
    const read = client.readAll({ fromPosition, maxCount: 1, ...credentials });
    try {
      for await (const { event } of readWithTimeout(read, CALL_TIMEOUT_MS)) {
        const isThere = event && this.#mapping.isOurs(event) && this.#mapping.position(event.position) === position;
        return isThere ? this.#mapping.recorded(event) : undefined;
      }
      return undefined;
    } catch (cause) {
      if (NO_EVENT_THERE.test((cause as Error).message)) return undefined;
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }

  end(): Promise<Position> {
    return this.#end.find();
  }

  async *subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    yield* this.#batches(after, AbortSignal.any([signal, this.#closing.signal]));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#appending);
    await this.#connection.client.dispose();
  }

  /**
   * A batch is caught up if it reaches the end that the log had at the start: servers before 23.10 do not report it.
   */
  async *#batches(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    const fromPosition = after === undefined ? START : this.#mapping.place(after);
    if (signal.aborted) return;
    const end = await this.end();
    let position = after ?? this.#start;
    // Before subscribing: a reader that stops at this yield would leave a subscription whose failure is unhandled.
    if (position >= end) yield { events: [], position, caughtUp: true };
    const { client, credentials } = this.#connection;
    const filter = streamNameFilter({ prefixes: this.#prefixes, ...SEARCH });
    const subscription = client.subscribeToAll({ fromPosition, filter, ...credentials }, { highWaterMark: BATCH_SIZE });
    const stopListening = this.#heartbeat.listen((error) => subscription.emit('error', error));
    try {
      for await (const { events } of subscriptionBatches(subscription, signal)) {
        const { events: ours, foreign } = partitionForeign(events.map((event) => this.#mapping.recorded(event)));
        // Only positions of events that this log holds leave the adapter.
        position = ours.at(-1)?.position ?? position;
        const caughtUp = position >= end && subscription.readableLength === 0;
        yield { events: ours, foreign, position, caughtUp };
      }
    } catch (cause) {
      throw new KeyledgerError('UNAVAILABLE', { cause });
    } finally {
      stopListening();
    }
  }

  async #assertSameLog(): Promise<void> {
    const identity = await findLogIdentity(this.#connection, this.#mapping.stream(LOG_STREAM));
    if (identity?.logId === this.logId) return;
    const error = new Error(`The database no longer holds the log ${this.logId}`);
    if (!this.#closing.signal.aborted) this.#onFatal(error);
    throw error;
  }
}
