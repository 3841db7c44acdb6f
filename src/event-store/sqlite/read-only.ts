import { accessSync, closeSync, constants, existsSync, openSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { KeyledgerError } from '../../domain/errors.js';
import { extendedResultCode, SQLITE_CANTOPEN } from '../../sqlite/result-codes.js';
import type { EventBatch, EventStore } from '../event-store.js';
import type { Position } from '../position.js';
import { SqliteReads } from './reads.js';
import { assertLogFile, LogFileError, logIdIn } from './schema.js';

/**
 * True if no user may write to the file: its medium is read-only, or the file or its folder has no permission to write.
 * A log that other users may write to is not a read-only copy.
 */
export function isReadOnlyCopy(path: string): boolean {
  const file = resolve(path);
  if (isWriteProtected(file) || refusesWriting(file, () => closeSync(openSync(file, 'r+')))) return true;
  // SQLite writes beside the file.
  const folder = dirname(file);
  return !existsSync(`${file}-wal`) && refusesWriting(folder, () => accessSync(folder, constants.W_OK));
}

const isWriteProtected = (path: string): boolean => (statSync(path).mode & 0o222) === 0;

/** @throws errors that have nothing to do with the medium, such as too many open files */
function refusesWriting(path: string, tryToWrite: () => void): boolean {
  try {
    tryToWrite();
    return false;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') return isWriteProtected(path);
    // EPERM: the file is immutable (chattr +i), or read-only on Windows.
    if (code === 'EROFS' || code === 'EPERM') return true;
    throw error;
  }
}

/**
 * Opens a read-only copy of a log, which refuses every append. Writes nothing, to the copy or beside it.
 * @throws Error the file is not a log, of a later release, or incomplete without a WAL that cannot be read here
 */
export function openReadOnlyCopy(path: string): EventStore {
  const file = resolve(path);
  const db = openImmutable(file);
  try {
    assertLogFile(db, file);
    return new ReadOnlyLog(db);
  } catch (error) {
    db.close();
    throw error;
  }
}

/** `immutable` reads without locks and without the WAL, which must be empty then: https://www.sqlite.org/uri.html */
function openImmutable(file: string): DatabaseSyncInstance {
  const wal = statSync(`${file}-wal`, { throwIfNoEntry: false });
  if (!wal?.size && !existsSync(`${file}-shm`)) {
    const url = pathToFileURL(file);
    url.searchParams.set('immutable', '1');
    return new DatabaseSync(url, { readOnly: true });
  }
  try {
    const db = new DatabaseSync(file, { readOnly: true });
    db.exec('PRAGMA schema_version');
    return db;
  } catch (error) {
    if (extendedResultCode(error) !== SQLITE_CANTOPEN) throw error;
    throw new LogFileError(
      `${file} is incomplete: its last events are in ${file}-wal, which SQLite cannot read where it cannot write. Copy both to a writable folder, or make the copy with sqlite3 ".backup"`,
    );
  }
}

class ReadOnlyLog extends SqliteReads implements EventStore {
  readonly readOnly = true;
  readonly #db: DatabaseSyncInstance;

  constructor(db: DatabaseSyncInstance) {
    super(db, logIdIn(db));
    this.#db = db;
  }

  async append(): Promise<never> {
    throw new KeyledgerError('UNAVAILABLE', { cause: new Error('The log is a read-only copy') });
  }

  async bulkAppend(): Promise<never> {
    return this.append();
  }

  /** Nothing comes after the copy's end. */
  async *subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    for (let last = this.placeAfter(after); !signal.aborted; await setImmediate()) {
      const { place, ...batch } = this.batchAfter(last);
      last = place;
      yield { ...batch, position: this.position(place) };
      if (batch.caughtUp) await aborted(signal);
    }
  }

  async close(): Promise<void> {
    this.#db.close();
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
