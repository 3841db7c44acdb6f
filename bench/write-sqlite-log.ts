import { parentPort, workerData } from 'node:worker_threads';
import { openLogFile, STREAM_INDEX } from '../src/event-store/sqlite/schema.js';
import type { EncodedEvent } from '../src/event-store/sqlite/writer.js';

/**
 * The thread that writes the SQLite file of make-log: without a journal, and with the index made at the end, both of
 * which a log in use needs from the start.
 */

export type EventRow = readonly [stream: string, revision: number, ...event: EncodedEvent];

const { db } = await openLogFile(workerData as string);
db.enableDefensive(false);
db.exec(`DROP INDEX ${STREAM_INDEX.name}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN`);
const insert = db.prepare('INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
const recordedAt = Date.now();
let place = 1;

parentPort?.on('message', (message: readonly EventRow[] | 'end') => {
  if (message === 'end') {
    db.exec(`COMMIT; ${STREAM_INDEX.create}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`);
    db.close();
    return parentPort?.close();
  }
  for (const [stream, revision, id, type, data, metadata] of message) {
    insert.run(++place, stream, revision, id, type, data, metadata, recordedAt);
  }
  parentPort?.postMessage('written');
});
