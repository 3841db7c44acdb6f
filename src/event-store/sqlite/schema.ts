import { closeSync, mkdirSync, openSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { v4 as uuid } from 'uuid';
import {
  extendedResultCode,
  resultCode,
  SQLITE_BUSY,
  SQLITE_FULL,
  SQLITE_IOERR_WRITE,
  SQLITE_NOTADB,
} from '../../sqlite/result-codes.js';

/** 'KLog' marks a log of Keyledger: https://www.sqlite.org/pragma.html#pragma_application_id */
const APPLICATION_ID = 0x4b4c6f67;
const FILE_VERSION = 1;
const BUSY_TIMEOUT_MS = 4000;
/** SQLite does not wait by itself where that could deadlock: when a new file switches to WAL. */
const BUSY_RETRY_MS = 10;

/** The disk wrote only a part or nothing: no space, or a quota or size limit. */
export const DISK_FULL: readonly number[] = [SQLITE_FULL, SQLITE_IOERR_WRITE];

/** Stream of the log's first event, which no reader gets; its id is the log id. */
const LOG_STREAM = 'keyledger-log';

/** Finds the events of a stream, and refuses a revision that it has. Files of 0.1.0 have it as a constraint of the table. */
export const STREAM_INDEX = {
  name: 'events_by_stream',
  create: 'CREATE UNIQUE INDEX events_by_stream ON events (stream, revision)',
};

/** f_type of statfs(2), see linux/magic.h: WAL needs shared memory, which these do not provide. */
const NETWORK_FILE_SYSTEMS: Readonly<Record<number, string>> = {
  26985: 'NFS',
  20859: 'SMB',
  4266872130: 'SMB2',
  4283649346: 'CIFS',
  16914839: '9P',
  1397113167: 'AFS',
  12805120: 'Ceph',
  198183888: 'Lustre',
  1196443219: 'GPFS',
};

export type LogFile = { readonly file: string; readonly db: DatabaseSyncInstance; readonly logId: string };

/**
 * Opens the file of a log, and creates it if there is none. Leaves a file that it refuses unchanged.
 * @throws Error the file is not a log, of a later release, or on a network file system
 */
export async function openLogFile(
  path: string,
  statfs: (path: string) => { type: number } = statfsSync,
): Promise<LogFile> {
  const file = resolve(path);
  for (const deadline = Date.now() + BUSY_TIMEOUT_MS; ; await setTimeout(BUSY_RETRY_MS)) {
    try {
      mkdirSync(dirname(file), { recursive: true });
      refuseNetworkFileSystem(file, statfs(dirname(file)).type);
      closeSync(openSync(file, 'a', 0o600));
      return openOnce(file);
    } catch (cause) {
      const code = resultCode(cause);
      if (code === SQLITE_BUSY && Date.now() < deadline) continue;
      if (code === SQLITE_NOTADB) throw notALogError(file);
      if (cause instanceof LogFileError) throw cause;
      throw new LogFileError(`Cannot open the log ${file}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** A file is refused; the message says why. */
export class LogFileError extends Error {}

function refuseNetworkFileSystem(file: string, type: number): void {
  const network = NETWORK_FILE_SYSTEMS[type];
  if (!network) return;
  throw new LogFileError(
    `${file} is on a network file system (${network}), where SQLite cannot keep a log safely. Use a local disk, or EventStoreDB`,
  );
}

function openOnce(file: string): LogFile {
  const db = openDatabase(file);
  try {
    createOrCheck(db, file);
    syncWal(db);
    return { file, db, logId: logIdIn(db) };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** The id of the log in an open file: that of its first event. */
export const logIdIn = (db: DatabaseSyncInstance): string =>
  (db.prepare('SELECT id FROM events WHERE place = 1').get() as { id: string }).id;

/** Opens a connection that acknowledges a COMMIT after fsync. */
export function openDatabase(file: string): DatabaseSyncInstance {
  const db = new DatabaseSync(file);
  try {
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA synchronous = FULL;`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Syncs what a killed process wrote: SQLite recovers it from the page cache, and no reader or repeated append may see
 * it while a power cut could still undo it.
 */
function syncWal(db: DatabaseSyncInstance): void {
  try {
    db.exec('PRAGMA wal_checkpoint(PASSIVE)');
  } catch (error) {
    // A full disk leaves it in the WAL, which a checkpoint syncs first; readers continue.
    if (!DISK_FULL.includes(extendedResultCode(error))) throw error;
  }
}

function createOrCheck(db: DatabaseSyncInstance, file: string): void {
  if (pragma(db, 'application_id') === 0 && pragma(db, 'schema_version') === 0) create(db);
  assertLogFile(db, file);
}

const pragma = (db: DatabaseSyncInstance, name: string): number =>
  Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0] as number;

/** @throws Error the open file is not a log, or of a later release */
export function assertLogFile(db: DatabaseSyncInstance, file: string): void {
  if (pragma(db, 'application_id') !== APPLICATION_ID) throw notALogError(file);
  const version = pragma(db, 'user_version');
  if (version > FILE_VERSION) {
    throw new LogFileError(
      `${file} was written by a later release (file version ${version}, this one knows ${FILE_VERSION}). Start that release, or a newer one`,
    );
  }
}

function create(db: DatabaseSyncInstance): void {
  db.exec('PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;');
  const { application_id } = db.prepare('PRAGMA application_id').get() as { application_id: number };
  if (application_id === 0) {
    db.exec(`
      CREATE TABLE events (
        place INTEGER PRIMARY KEY,
        stream TEXT NOT NULL,
        revision INTEGER NOT NULL,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        data TEXT NOT NULL,
        metadata TEXT NOT NULL,
        recorded_at INTEGER NOT NULL
      ) STRICT;
      ${STREAM_INDEX.create};
      PRAGMA application_id = ${APPLICATION_ID};
      PRAGMA user_version = ${FILE_VERSION};`);
    db.prepare("INSERT INTO events VALUES (1, ?, 0, ?, 'LogCreated', '{}', '{}', ?)").run(
      LOG_STREAM,
      uuid(),
      Date.now(),
    );
  }
  db.exec('COMMIT');
}

const notALogError = (file: string) =>
  new LogFileError(`${file} is not a log of Keyledger. Name another file in EVENT_STORE_URL`);
