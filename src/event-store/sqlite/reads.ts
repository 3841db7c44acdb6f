import { setImmediate } from 'node:timers/promises';
import type { DatabaseSyncInstance, StatementSyncInstance } from '@photostructure/sqlite';
import type { EventBatch, RecordedEvent } from '../event-store.js';
import { hex16, makePosition, type Position, placeIn } from '../position.js';
import { isKeyledgerStream, partitionForeign } from '../streams.js';

/** Events per query, and so the longest work between two yields to the event loop. */
const BATCH_SIZE = 512;
/** Characters of JSON above which a query takes no more events. */
const MAX_BATCH_LENGTH = 2 * 1024 * 1024;

/** Place of the event that creates the log, which no reader gets. */
const BEGINNING = 1;

/** The reads of a log in an open file. */
export abstract class SqliteReads {
  readonly logId: string;
  readonly #selectStream: StatementSyncInstance;
  readonly #selectAfter: StatementSyncInstance;
  readonly #selectAt: StatementSyncInstance;
  readonly #selectEnd: StatementSyncInstance;

  constructor(db: DatabaseSyncInstance, logId: string) {
    this.logId = logId;
    const select = 'SELECT place, stream, revision, id, type, data, metadata, recorded_at FROM events';
    this.#selectStream = db.prepare(
      `${select} WHERE stream = ? AND revision > ? AND place > ${BEGINNING} ORDER BY revision LIMIT ${BATCH_SIZE}`,
    );
    this.#selectAfter = db.prepare(`${select} WHERE place > ? ORDER BY place LIMIT ${BATCH_SIZE}`);
    this.#selectAt = db.prepare(`${select} WHERE place = ? AND place > ${BEGINNING}`);
    // Half the time of rows as objects.
    for (const rows of [this.#selectStream, this.#selectAfter, this.#selectAt]) rows.setReturnArrays(true);
    this.#selectEnd = db.prepare('SELECT max(place) AS place FROM events');
  }

  async *readStream(stream: string): AsyncIterable<RecordedEvent> {
    for (let last = -1; ; ) {
      const { rows, isLast } = takeBatch(this.#selectStream.iterate(stream, last));
      for (const row of rows) yield this.#recorded(row);
      if (isLast) return;
      last = (rows.at(-1) as Row)[2];
      await setImmediate();
    }
  }

  async *readAll(after?: Position, onForeign?: (event: RecordedEvent) => void): AsyncIterable<RecordedEvent> {
    for (let place = this.placeAfter(after); ; ) {
      const batch = this.batchAfter(place);
      if (onForeign) batch.foreign.forEach(onForeign);
      yield* batch.events;
      if (batch.caughtUp) return;
      place = batch.place;
      await setImmediate();
    }
  }

  async eventAt(position: Position): Promise<RecordedEvent | undefined> {
    const row = this.#selectAt.get(this.placeAfter(position)) as Row | undefined;
    return row && isKeyledgerStream(row[1]) ? this.#recorded(row) : undefined;
  }

  async end(): Promise<Position> {
    return this.position((this.#selectEnd.get() as { place: number }).place);
  }

  /** The next events after a place, and how far they reach. */
  protected batchAfter(place: number): Pick<EventBatch, 'events' | 'caughtUp'> & {
    readonly foreign: readonly RecordedEvent[];
    readonly place: number;
  } {
    const { rows, isLast } = takeBatch(this.#selectAfter.iterate(place));
    return {
      ...partitionForeign(rows.map((row) => this.#recorded(row))),
      place: rows.at(-1)?.[0] ?? place,
      caughtUp: isLast,
    };
  }

  /** The place that reading after a position starts from. @throws KeyledgerError OTHER_LOG */
  protected placeAfter(after: Position | undefined): number {
    return after === undefined ? BEGINNING : Number.parseInt(placeIn(after, this.logId), 16);
  }

  protected position(place: number): Position {
    return makePosition(this.logId, hex16(place));
  }

  #recorded([place, stream, revision, id, type, data, metadata, recordedAt]: Row): RecordedEvent {
    return {
      id,
      stream,
      revision,
      position: this.position(place),
      type,
      data: parseJsonOrText(data),
      metadata: parseJsonOrText(metadata),
      recordedAt: new Date(recordedAt).toISOString(),
    };
  }
}

type Row = [
  place: number,
  stream: string,
  revision: number,
  id: string,
  type: string,
  data: string,
  metadata: string,
  recordedAt: number,
];

/** The first rows of a query that has at most BATCH_SIZE. */
function takeBatch(query: Iterable<Row>): { readonly rows: readonly Row[]; readonly isLast: boolean } {
  const rows: Row[] = [];
  let length = 0;
  for (const row of query) {
    rows.push(row);
    const [, , , , , data, metadata] = row;
    length += data.length + metadata.length;
    if (length > MAX_BATCH_LENGTH) return { rows, isLast: false };
  }
  return { rows, isLast: rows.length < BATCH_SIZE };
}

/** The JSON value of a column; text that is not JSON stays text, which no schema accepts. */
function parseJsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
