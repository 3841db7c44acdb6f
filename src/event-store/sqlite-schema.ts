import { mkdirSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { v4 as uuid } from 'uuid';

/** 'KLog': tells a log of ours from any other SQLite file (https://www.sqlite.org/pragma.html#pragma_application_id). */
const APPLICATION_ID = 0x4b4c6f67;
const FILE_VERSION = 1;
const BUSY_TIMEOUT_MS = 4000;

/** The log's first event, which no reader is given: it makes the log id. */
const LOG_STREAM = 'keyledger-log';

/** f_type of statfs(2), see linux/magic.h: WAL needs shared memory, which these do not give. */
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

/**
 * Opens the file of a log, and makes it if there is none.
 * @throws Error the file is no log, of a later release, or on a network file system
 */
export function openLogFile(path: string, statfs = statfsSync): { db: DatabaseSyncInstance; logId: string } {
  const file = resolve(path);
  try {
    mkdirSync(dirname(file), { recursive: true });
    const network = NETWORK_FILE_SYSTEMS[statfs(dirname(file)).type];
    if (network) {
      throw new LogFileError(
        `${file} is on a network file system (${network}), where SQLite cannot keep a log safely. Use a local disk, or EventStoreDB`,
      );
    }
    const db = connect(file);
    migrate(db, file);
    const { id } = db.prepare('SELECT id FROM events WHERE place = 1').get() as { id: string };
    return { db, logId: id };
  } catch (cause) {
    if (cause instanceof LogFileError) throw cause;
    if ((cause as { errcode?: number }).errcode === NOT_A_DATABASE) throw notALog(file);
    throw new LogFileError(`Cannot open the log ${file}: ${(cause as Error).message}`, { cause });
  }
}

class LogFileError extends Error {}

/** SQLITE_NOTADB, https://www.sqlite.org/rescode.html */
const NOT_A_DATABASE = 26;

/** A connection as durable as it gets: an acknowledged COMMIT has been through fsync. */
export function connect(file: string): DatabaseSyncInstance {
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA synchronous = FULL;`);
  return db;
}

function migrate(db: DatabaseSyncInstance, file: string): void {
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
  if (pragma('application_id') === 0 && pragma('schema_version') === 0) create(db);
  if (pragma('application_id') !== APPLICATION_ID) throw notALog(file);
  const version = pragma('user_version');
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
        recorded_at INTEGER NOT NULL,
        UNIQUE (stream, revision)
      ) STRICT;
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

const notALog = (file: string) =>
  new LogFileError(`${file} is not a log of Keyledger. Name another file in EVENT_STORE_URL`);
