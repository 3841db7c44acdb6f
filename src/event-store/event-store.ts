import type { Position } from './position.js';

/** The port to the log. `test/support/contracts/event-store.ts` is its definition; adapters differ in nothing else. */
export interface EventStore {
  /** Made with the log and different for every log; the first half of its positions. */
  readonly logId: string;

  /** True of a read-only copy of a log, which refuses every append. */
  readonly readOnly?: true;

  /**
   * Appends all of the events or none, right behind the expected revision.
   *
   * Repeatable: if the stream already holds exactly these event ids at these places, nothing is
   * written and the first result is returned. Bodies are not compared. The same id anywhere else
   * is just another event.
   *
   * @param expected revision of the stream's last event; 'no-stream' if the stream must not exist
   * @throws KeyledgerError UNAVAILABLE (not done), OUTCOME_UNKNOWN (done wholly or not at all)
   * @throws RangeError no events, or an event larger than MAX_EVENT_BYTES
   */
  append(stream: string, events: readonly NewEvent[], expected: ExpectedRevision): Promise<AppendResult>;

  /**
   * Appends many, in the order given, without waiting for each. Repeatable like append. Stops at the first conflict or
   * failure, also of `appends`: everything before it is in the log then, and a few appends after it may be.
   * @throws KeyledgerError UNAVAILABLE, OUTCOME_UNKNOWN; RangeError as append
   */
  bulkAppend(appends: AsyncIterable<AppendRequest>): Promise<BulkAppendResult>;

  /** The stream's events from its first; nothing if there is no such stream. */
  readStream(stream: string): AsyncIterable<RecordedEvent>;

  /**
   * Every event after a position (from the first without one), in log order, up to the log's end
   * as it is when the reading gets there. Foreign events are left out: see isKeyledgerStream.
   * @param onForeign called with each of them
   * @throws KeyledgerError OTHER_LOG
   */
  readAll(after?: Position, onForeign?: (event: RecordedEvent) => void): AsyncIterable<RecordedEvent>;

  /**
   * The event at exactly this position; undefined if none is there, as in a log that was restored from an older copy.
   * @throws KeyledgerError OTHER_LOG
   */
  eventAt(position: Position): Promise<RecordedEvent | undefined>;

  /** Position of the last event; of the log's own beginning if there is none yet. */
  end(): Promise<Position>;

  /**
   * Every event after a position, in log order and without gaps, and then each new one as it comes,
   * in pages of what is there. Ends when the signal is aborted; throws when the log breaks.
   * @throws KeyledgerError OTHER_LOG
   */
  subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch>;

  close(): Promise<void>;
}

/** Largest data + metadata of one event as UTF-8 JSON, in bytes: what EventStoreDB takes by default. */
export const MAX_EVENT_BYTES = 1024 * 1024;

export type ExpectedRevision = 'no-stream' | number;

export type NewEvent = {
  readonly id: string;
  readonly type: string;
  readonly data: object;
  readonly metadata: object;
};

/** What append is given. */
export type AppendRequest = {
  readonly stream: string;
  readonly events: readonly NewEvent[];
  readonly expectedRevision: ExpectedRevision;
};

/** An event as the log holds it. data and metadata are whatever JSON is there: only the codec gives them a type. */
export type RecordedEvent = {
  readonly id: string;
  readonly stream: string;
  /** 0 for the first event of a stream. */
  readonly revision: number;
  readonly position: Position;
  readonly type: string;
  readonly data: unknown;
  readonly metadata: unknown;
  /** The log's clock, RFC 3339. */
  readonly recordedAt: string;
};

export type EventBatch = {
  readonly events: readonly RecordedEvent[];
  /** Skipped, because no release of ours can have written them: see isKeyledgerStream. */
  readonly foreign?: readonly RecordedEvent[];
  /** How far the log has been read: that of the last event, or beyond it where nothing follows that is for us. */
  readonly position: Position;
  /** True if the log held nothing behind this page when it was read. */
  readonly caughtUp: boolean;
};

export type AppendResult =
  | { readonly appended: true; readonly revision: number; readonly position: Position }
  | { readonly appended: false; readonly actualRevision: ExpectedRevision };

/** A conflict stops a bulk append at the stream that is at another revision. */
export type BulkAppendResult =
  | { readonly appended: true }
  | { readonly appended: false; readonly stream: string; readonly actualRevision: ExpectedRevision };
