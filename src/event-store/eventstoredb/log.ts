import {
  type AllStreamRecordedEvent,
  BACKWARDS,
  END,
  type RecordedEvent as EventStoreDbEvent,
  type JSONType,
  jsonEvent,
  NO_STREAM,
  type Position as Place,
  START,
  StreamNotFoundError,
  streamNameFilter,
  WrongExpectedVersionError,
} from '@eventstore/db-client';
import { KeyledgerError } from '../../domain/errors.js';
import { STREAM_CATEGORIES } from '../event-schemas.js';
import type {
  AppendRequest,
  AppendResult,
  EventBatch,
  EventStore,
  ExpectedRevision,
  NewEvent,
  RecordedEvent,
} from '../event-store.js';
import { hex16, makePosition, type Position, placeIn } from '../position.js';
import { serializeEvent } from '../serialize-event.js';
import { isKeyledgerStream, partitionForeign } from '../streams.js';
import { appendBatched } from './bulk-append.js';
import { type Connection, connectEventStoreDb } from './connection.js';
import { disableGrpcCompression } from './disable-grpc-compression.js';
import { Heartbeat } from './heartbeat.js';
import {
  ensureLogIdentity,
  findLogIdentity,
  LOG_STREAM,
  type LogIdentity,
  type WaitOptions,
} from './log-identity.js';
import { BATCH_SIZE, parseJsonOrText, readWithTimeout, subscriptionBatches } from './reads.js';
import { warnOfRetention } from './retention.js';
import { backOffBeforeRetry, CALL_TIMEOUT_MS, retryUntilOutcomeKnown } from './retry.js';

/** Events of others that the server passes over at once, and how seldom it tells of it. */
const SEARCH = { maxSearchWindow: 4096, checkpointInterval: 1000 };
/** Places are int64 in the server. */
const MAX_PLACE = 2n ** 63n - 1n;
/** How many events are looked at first when the end is looked for, and at most at a time. */
const SCAN = { first: 16, longest: 4096 };

export type EventStoreDbOptions = {
  /** Called if the database holds another log than before: the process must end. */
  readonly onFatal: (error: Error) => void;
  /** Given what an operator should know; holds no credentials. */
  readonly warn: (message: string) => void;
  /** What the names of all streams of this log begin with, so that several logs share a server. */
  readonly prefix?: string | undefined;
  readonly wait?: WaitOptions | undefined;
};

/**
 * Opens the log in an EventStoreDB or KurrentDB; see connect for the URL.
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
  readonly #origin: Position;
  readonly #prefix: string;
  /** What the names of our streams begin with: the database may hold the streams of others too. */
  readonly #prefixes: string[];
  readonly #onFatal: (error: Error) => void;
  readonly #heartbeat = new Heartbeat(() => this.#assertSameLog());
  readonly #closing = new AbortController();
  readonly #appending = new Set<Promise<unknown>>();
  /** How far the end was looked for, and where our last event before that is. */
  #scanned: { readonly to: Position; readonly last: Position };

  constructor(
    connection: Connection,
    { logId, commit, prepare }: LogIdentity,
    prefix: string,
    onFatal: (error: Error) => void,
    warn: (message: string) => void,
  ) {
    this.logId = logId;
    this.#connection = connection;
    this.#prefix = prefix;
    this.#prefixes = STREAM_CATEGORIES.map((category) => prefix + category);
    this.#onFatal = onFatal;
    this.#origin = this.#position({ commit, prepare });
    this.#scanned = { to: this.#origin, last: this.#origin };
    const streams = [...this.#prefixes, prefix + LOG_STREAM];
    void warnOfRetention(connection, streams, this.#closing.signal, warn);
  }

  async append(
    stream: string,
    events: readonly NewEvent[],
    expected: ExpectedRevision,
  ): Promise<AppendResult> {
    if (events.length === 0) throw new RangeError('An append needs an event');
    events.forEach(serializeEvent);
    if (this.#closing.signal.aborted) {
      throw new KeyledgerError('UNAVAILABLE', { cause: new Error('The log is closed') });
    }
    return this.#trackAppend(
      retryUntilOutcomeKnown((limitMs) => this.#appendOnce(stream, events, expected, limitMs)),
    );
  }

  async bulkAppend(appends: AsyncIterable<AppendRequest>): Promise<void> {
    const client = this.#connection.connectForBatches();
    const prefixed = withPrefix(this.#prefix, appends);
    await this.#trackAppend(appendBatched(client, prefixed).finally(() => client.dispose()));
  }

  /** Closing waits for it. */
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
        const read = client.readStream(this.#prefix + stream, { fromRevision: next, ...credentials });
        for await (const { event } of readWithTimeout(read, giveUpAt - performance.now())) {
          if (!event) continue;
          yield this.#recorded(event);
          next = event.revision + 1n;
          giveUpAt = performance.now() + CALL_TIMEOUT_MS;
        }
        return;
      } catch (cause) {
        if (cause instanceof StreamNotFoundError) return;
        if (!(await backOffBeforeRetry(cause, giveUpAt, attempt)))
          throw new KeyledgerError('UNAVAILABLE', { cause });
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
    const fromPosition = this.#toPlace(position);
    if (fromPosition.commit > MAX_PLACE || fromPosition.prepare > MAX_PLACE) return undefined;
    const { client, credentials } = this.#connection;
    const read = client.readAll({ fromPosition, maxCount: 1, ...credentials });
    try {
      for await (const { event } of readWithTimeout(read, CALL_TIMEOUT_MS)) {
        const isThere = event && this.#isOurs(event.streamId) && this.#position(event.position) === position;
        return isThere ? this.#recorded(event) : undefined;
      }
      return undefined;
    } catch (cause) {
      // So it says that nothing begins at this place, in its own words or those of gRPC.
      if (/invalid ?position|exception was thrown by handler/i.test((cause as Error).message))
        return undefined;
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
  }

  /** Of our last event, so that a subscriber, who sees no others, gets there. */
  async end(): Promise<Position> {
    const known = this.#scanned;
    let scannedTo: Position | undefined;
    const found = (last: Position) => {
      if (scannedTo && scannedTo > this.#scanned.to) this.#scanned = { to: scannedTo, last };
      return last;
    };
    let from: Place | typeof END = END;
    for (let maxCount = SCAN.first; ; maxCount = Math.min(maxCount * 8, SCAN.longest)) {
      const before: Place | typeof END = from;
      for (const { streamId, position } of await this.#readBackwards(from, maxCount)) {
        const here = this.#position(position);
        scannedTo ??= here;
        if (this.#isOurs(streamId)) return found(here);
        if (here <= known.to) return found(known.last);
        from = position;
      }
      if (from === before) return found(known.last);
    }
  }

  async *subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    yield* this.#batches(after, AbortSignal.any([signal, this.#closing.signal]));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#appending);
    await this.#connection.client.dispose();
  }

  async #appendOnce(
    stream: string,
    events: readonly NewEvent[],
    expected: ExpectedRevision,
    limitMs: number,
  ): Promise<AppendResult> {
    const { client, appendCredentials } = this.#connection;
    const expectedRevision = expected === 'no-stream' ? NO_STREAM : BigInt(expected);
    try {
      const { nextExpectedRevision, position } = await client.appendToStream(
        this.#prefix + stream,
        events.map(({ id, type, data, metadata }) =>
          jsonEvent({ id, type, data: data as JSONType, metadata: metadata as JSONType }),
        ),
        { expectedRevision, deadline: limitMs, ...appendCredentials },
      );
      return { appended: true, revision: Number(nextExpectedRevision), position: this.#position(position) };
    } catch (error) {
      if (!(error instanceof WrongExpectedVersionError)) throw error;
      const { actualVersion } = error;
      return {
        appended: false,
        actualRevision: typeof actualVersion === 'bigint' ? Number(actualVersion) : 'no-stream',
      };
    }
  }

  /** Caught up is whoever has got to where the end was before: only servers from 23.10 on say it themselves. */
  async *#batches(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    const fromPosition = after === undefined ? START : this.#toPlace(after);
    if (signal.aborted) return;
    const end = await this.end();
    let position = after ?? this.#origin;
    // Before there is a subscription: whoever reads no further would leave one that nobody hears break.
    if (position >= end) yield { events: [], position, caughtUp: true };
    const { client, credentials } = this.#connection;
    const subscription = client.subscribeToAll(
      { fromPosition, filter: streamNameFilter({ prefixes: this.#prefixes, ...SEARCH }), ...credentials },
      { highWaterMark: BATCH_SIZE },
    );
    const stopListening = this.#heartbeat.listen((error) => subscription.emit('error', error));
    try {
      for await (const { events } of subscriptionBatches(subscription, signal)) {
        const recorded = events.map((event) => this.#recorded(event));
        const { events: ours, foreign } = partitionForeign(recorded);
        // Where our last event is: nobody is given the place of an event that this log does not hold.
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

  async #readBackwards(
    fromPosition: Place | typeof END,
    maxCount: number,
  ): Promise<AllStreamRecordedEvent[]> {
    const { client, credentials } = this.#connection;
    const read = client.readAll({ direction: BACKWARDS, fromPosition, maxCount, ...credentials });
    const found: AllStreamRecordedEvent[] = [];
    try {
      for await (const { event } of readWithTimeout(read, CALL_TIMEOUT_MS)) if (event) found.push(event);
    } catch (cause) {
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
    return found;
  }

  async #assertSameLog(): Promise<void> {
    const found = await findLogIdentity(this.#connection, this.#prefix + LOG_STREAM);
    if (found?.logId === this.logId) return;
    const error = new Error(`The database no longer holds the log ${this.logId}`);
    if (!this.#closing.signal.aborted) this.#onFatal(error);
    throw error;
  }

  #isOurs(streamId: string): boolean {
    return streamId.startsWith(this.#prefix) && isKeyledgerStream(streamId.slice(this.#prefix.length));
  }

  #toPlace(position: Position): Place {
    const place = placeIn(position, this.logId);
    return { commit: BigInt(`0x${place.slice(0, 16)}`), prepare: BigInt(`0x${place.slice(16) || '0'}`) };
  }

  #position(place: Place | undefined): Position {
    if (!place) throw new Error('EventStoreDB did not say where the event is; 22.6 or later does');
    return makePosition(this.logId, hex16(place.commit) + hex16(place.prepare));
  }

  #recorded(event: EventStoreDbEvent): RecordedEvent {
    return {
      id: event.id,
      stream: event.streamId.slice(this.#prefix.length),
      revision: Number(event.revision),
      position: this.#position(event.position),
      type: event.type,
      data: parseJsonOrText(event.data),
      metadata: parseJsonOrText(event.metadata),
      recordedAt: event.created.toISOString(),
    };
  }
}

async function* withPrefix(
  prefix: string,
  appends: AsyncIterable<AppendRequest>,
): AsyncIterable<AppendRequest> {
  for await (const append of appends) yield { ...append, stream: prefix + append.stream };
}
