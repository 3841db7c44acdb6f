import { once } from 'node:events';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { encodeAppend } from '../src/event-store/sqlite/bulk-append.js';
import type { EncodedEvent } from '../src/event-store/sqlite/writer.js';
import { generateAppends } from './generate-appends.js';

/** A thread of make-log: sends rows of the log in batches, and null at the end. Each message back says that a batch is written. */

export type EventRow = readonly [stream: string, revision: number, ...event: EncodedEvent];
export type Part = { readonly total: number; readonly seed: number };

/** Rows in a batch, unless the log is short: the parts of a log alternate by batches and shall keep the order of time. */
const BATCH_ROWS = 1000;
/** Batches that may wait for the writer. */
const MAX_WAITING = 8;

const port = parentPort as MessagePort;
const { total, seed } = workerData as Part;
const batchRows = Math.min(BATCH_ROWS, Math.ceil(total / 1000));
let waiting = 0;
port.on('message', () => waiting--);

let rows: EventRow[] = [];
for (const append of generateAppends(total, seed)) {
  const { stream, events, expectedRevision } = encodeAppend(append);
  let revision = expectedRevision === 'no-stream' ? -1 : expectedRevision;
  for (const event of events) rows.push([stream, ++revision, ...event]);
  if (rows.length < batchRows) continue;
  port.postMessage(rows);
  rows = [];
  waiting++;
  while (waiting >= MAX_WAITING) await once(port, 'message');
}
port.postMessage(rows);
port.postMessage(null);
port.unref();
