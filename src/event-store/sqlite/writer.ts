import { parentPort, workerData } from 'node:worker_threads';
import { extendedResultCode, SQLITE_BUSY } from '../../sqlite/result-codes.js';
import type { ExpectedRevision } from '../event-store.js';
import { DISK_FULL, openDatabase } from './schema.js';

/**
 * The thread that writes a SQLite log. It waits for the disk, so that the event loop does not: one message is a group
 * of appends, one group is one transaction, one transaction is one fsync.
 */

export type EncodedEvent = readonly [id: string, type: string, data: string, metadata: string];
export type EncodedAppend = {
  readonly stream: string;
  readonly expectedRevision: ExpectedRevision;
  readonly events: readonly EncodedEvent[];
};
/** Place of the append's last event, or the revision that it conflicts with. */
export type WriteOutcome =
  | { readonly revision: number; readonly place: number }
  | { readonly actualRevision: ExpectedRevision };
export type WriterReply =
  | { readonly outcomes: readonly WriteOutcome[] }
  /** Not done: the log holds nothing of the group. Unknown: it may hold the group, and nothing more is written. */
  | { readonly failure: string; readonly outcome: 'not done' | 'unknown' };

if (!parentPort) throw new Error('This module is a worker thread');
const port = parentPort;
const db = openDatabase(workerData as string);

const begin = db.prepare('BEGIN IMMEDIATE');
const commit = db.prepare('COMMIT');
const selectEnd = db.prepare('SELECT max(place) AS place FROM events');
const selectLast = db.prepare('SELECT max(revision) AS revision FROM events WHERE stream = ?');
const selectAt = db.prepare('SELECT id, place FROM events WHERE stream = ? AND revision = ?');
const insert = db.prepare('INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)');

port.on('message', (message: readonly EncodedAppend[] | 'close') => {
  if (message === 'close') port.close();
  else port.postMessage(writeGroup(message));
});

function writeGroup(group: readonly EncodedAppend[]): WriterReply {
  let committing = false;
  try {
    begin.run();
    const now = Date.now();
    let place = (selectEnd.get() as { place: number }).place;
    const outcomes = group.map(({ stream, expectedRevision, events }): WriteOutcome => {
      const last = (selectLast.get(stream) as { revision: number | null }).revision;
      const actualRevision: ExpectedRevision = last ?? 'no-stream';
      if (expectedRevision !== actualRevision)
        return firstResult(stream, expectedRevision, events) ?? { actualRevision };
      let revision = last ?? -1;
      for (const [id, type, data, metadata] of events) {
        insert.run(++place, stream, ++revision, id, type, data, metadata, now);
      }
      return { revision, place };
    });
    committing = true;
    commit.run();
    return { outcomes };
  } catch (error) {
    return { failure: (error as Error).message, outcome: rollBack(committing, error) };
  }
}

/** The first result of a repeated append, if the stream holds the same ids at the same revisions. */
function firstResult(
  stream: string,
  expectedRevision: ExpectedRevision,
  events: readonly EncodedEvent[],
): WriteOutcome | undefined {
  let revision = expectedRevision === 'no-stream' ? -1 : expectedRevision;
  let place = 0;
  for (const [id] of events) {
    const row = selectAt.get(stream, ++revision) as { id: string; place: number } | undefined;
    if (row?.id !== id) return undefined;
    place = row.place;
  }
  return { revision, place };
}

/**
 * Not done if SQLite failed before its commit record was complete in the file. After that (in fsync, or in growing the
 * shared index that follows it) the record may reappear when the file is opened after a crash.
 */
function rollBack(committing: boolean, error: unknown): 'not done' | 'unknown' {
  try {
    if (db.isTransaction) db.exec('ROLLBACK');
  } catch {
    return 'unknown';
  }
  const code = extendedResultCode(error);
  return !committing || code === SQLITE_BUSY || DISK_FULL.includes(code) ? 'not done' : 'unknown';
}
