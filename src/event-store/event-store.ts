import type { Position } from './position.js';

/** Port to the log. `test/support/contracts/event-store.ts` defines what every adapter does. */
export interface EventStore {
  /** Unique id, created with the log; the first part of its positions. */
  readonly logId: string;

  /** True of a read-only copy of a log, which refuses every append. */
  readonly readOnly?: true;

  /**
   * Appends all of the events or none, right after the expected revision.
   *
   * Repeatable: if the stream already holds exactly these event ids at these revisions, nothing is written and the
   * first result is returned. Bodies are not compared. The same id anywhere else is just another event.
   *
   * @param expected revision of the stream's last event; 'no-stream' if the stream must not exist
   * @throws KeyledgerError UNAVAILABLE (not done), OUTCOME_UNKNOWN (done wholly or not at all)
   * @throws RangeError no events, or an event larger than MAX_EVENT_BYTES
   */
  append(stream: string, events: readonly NewEvent[], expected: ExpectedRevision): Promise<AppendResult>;

  /**
   * Appends many, in the order given, without waiting for each. Repeatable like append. Stops at the first conflict or
   * failure, also of the iterable `appends`: the log then holds every append before it, and perhaps a few after it.
   * @throws KeyledgerError UNAVAILABLE, OUTCOME_UNKNOWN; RangeError as append
   */
  bulkAppend(appends: AsyncIterable<AppendRequest>): Promise<BulkAppendResult>;

  /**
   * The stream's events from its first; nothing if there is no such stream.
   * @throws KeyledgerError UNAVAILABLE from EventStoreDB, an Error of SQLite; so do all reads below
   */
  readStream(stream: string): AsyncIterable<RecordedEvent>;

  /**
   * Every event after a position (from the first without one), in log order, at least up to the end that the log had
   * when reading began. Skips foreign events, see classifyStream.
   * @param onForeign called with each foreign event
   * @throws KeyledgerError OTHER_LOG
   */
  readAll(after?: Position, onForeign?: (event: RecordedEvent) => void): AsyncIterable<RecordedEvent>;

  /**
   * The event at exactly this position; undefined if there is none, as in a log restored from an older copy.
   * @throws KeyledgerError OTHER_LOG
   */
  eventAt(position: Position): Promise<RecordedEvent | undefined>;

  /** Position of the last event; of the log's beginning if there is none. */
  end(): Promise<Position>;

  /**
   * Every event after a position, in log order and without gaps, and then each new one as it arrives, in batches. Ends
   * when the signal is aborted; throws when the log fails.
   * @throws KeyledgerError OTHER_LOG
   */
  subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch>;

  close(): Promise<void>;
}

/** Largest data + metadata of one event as UTF-8 JSON, in bytes: EventStoreDB's default limit. */
export const MAX_EVENT_BYTES = 1024 * 1024;

export type ExpectedRevision = 'no-stream' | number;

export type NewEvent = {
  readonly id: string;
  readonly type: string;
  readonly data: object;
  readonly metadata: object;
};

export type AppendRequest = {
  readonly stream: string;
  readonly events: readonly NewEvent[];
  readonly expectedRevision: ExpectedRevision;
};

/** An event as the log holds it. data and metadata are any JSON: only the codec gives them a type. */
export type RecordedEvent = {
  readonly id: string;
  readonly stream: string;
  /** 0 for the first event of a stream. */
  readonly revision: number;
  readonly position: Position;
  readonly type: string;
  readonly data: unknown;
  readonly metadata: unknown;
  /** By the log's clock, RFC 3339. */
  readonly recordedAt: string;
};

export type EventBatch = {
  readonly events: readonly RecordedEvent[];
  /** Skipped, because no release of Keyledger can have written them: see classifyStream. */
  readonly foreign?: readonly RecordedEvent[];
  /** How far the log has been read: up to the last event, or beyond it over events that are not Keyledger's. */
  readonly position: Position;
  /** True if the adapter knew of no event after this batch; the log may already hold one. */
  readonly caughtUp: boolean;
};

export type AppendResult =
  | { readonly appended: true; readonly revision: number; readonly position: Position }
  | { readonly appended: false; readonly actualRevision: ExpectedRevision };

/** A conflict stops a bulk append at the stream whose revision is not the expected one. */
export type BulkAppendResult =
  | { readonly appended: true }
  | { readonly appended: false; readonly stream: string; readonly actualRevision: ExpectedRevision };
