import { closeSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { EVENT_TYPES, schemaVersionOf } from '../../event-store/event-schemas.js';
import {
  isDamage,
  resultCode,
  SQLITE_BUSY,
  SQLITE_CANTOPEN,
  SQLITE_FULL,
  SQLITE_IOERR,
  SQLITE_READONLY,
} from '../../sqlite/result-codes.js';
import { emptyMeta, type Meta } from './meta.js';
import { closeDb, NO_GUARD, ProjectionsDb, SCHEMA } from './projections-db.js';
import { jsonCodec, RecordTable } from './records.js';
import { ProjectionStore } from './store.js';

/** 'KPrj' marks a projections file: https://www.sqlite.org/pragma.html#pragma_application_id */
const APPLICATION_ID = 0x4b50726a;
/** Version of the tables and records, and of how they follow from events: increment it when either changes. */
const FILE_VERSION = 4;
/** Page cache while the service runs, and while a file is built. */
const CACHE_KIB = 24 * 1024;
const BUILD_CACHE_KIB = 160 * 1024;

/** Changes with every type or schema version of an event that a release can read, because its fold changes then. */
const FOLD_VERSION = EVENT_TYPES.map(
  (type) => `${type} ${schemaVersionOf(type as Parameters<typeof schemaVersionOf>[0])}`,
).join();

/** Events folded so far, and how many there are, estimated from the position. */
export type BuildProgress = {
  readonly events: number;
  readonly of: number;
  readonly perSecond: number;
  readonly secondsLeft: number;
};

/** A projections file cannot be used; the message says why. */
export class UnusableProjections extends Error {}

/** A file that is being built: nothing of it is durable before `finishFile`. */
export type Draft = { readonly db: DatabaseSyncInstance; readonly store: ProjectionStore };

/** Creates a file to build; a crash leaves nothing usable. @throws Error of SQLite or the file system */
export function createFile(path: string, logId: string): Draft {
  mkdirSync(dirname(path), { recursive: true });
  removeFile(path);
  closeSync(openSync(path, 'wx', 0o600));
  return openDraft(path, (db) => {
    db.exec(`${SCHEMA} PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${FILE_VERSION};`);
    const meta = metaTable(db);
    meta.set(0, emptyMeta(logId, FOLD_VERSION));
    meta.flush();
  });
}

/** Opens a file that finishFile closed, to build on. @throws UnusableProjections, Error of SQLite */
export function reopenDraft(path: string, logId: string): Draft {
  const meta = readMetaInFile(path);
  assertUsable(meta, meta, logId);
  return openDraft(path, () => undefined);
}

function openDraft(path: string, prepare: (db: DatabaseSyncInstance) => void): Draft {
  const db = new DatabaseSync(path);
  try {
    // SQLite's defensive mode, which the binding sets, refuses to work without a journal.
    db.enableDefensive(false);
    db.exec(`PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -${BUILD_CACHE_KIB};`);
    prepare(db);
    return { db, store: new ProjectionStore(db) };
  } catch (error) {
    closeDb(db);
    throw error;
  }
}

/**
 * Makes a file durable that createFile began, and gives it its name.
 * @param store that has committed everything
 */
export async function finishFile(db: DatabaseSyncInstance, path: string, finalPath: string): Promise<void> {
  closeDb(db);
  await sync(path);
  if (path !== finalPath) renameSync(path, finalPath);
  await sync(dirname(finalPath));
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Opens a file to go on with it.
 * @throws UnusableProjections it is damaged, of another release or log, or not whole
 */
export function openFile(path: string, logId: string): DatabaseSyncInstance {
  const inFile = readMetaInFile(path);
  const wal = statSync(`${path}-wal`, { throwIfNoEntry: false });
  if (inFile.isOpen && !wal?.size) throw new UnusableProjections('its WAL is gone, with its last changes');
  const db = new DatabaseSync(path);
  try {
    db.exec(`
      PRAGMA busy_timeout = 0;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = NORMAL;
      PRAGMA wal_autocheckpoint = 0;
      PRAGMA cache_size = -${CACHE_KIB};`);
    assertUsable(metaTable(db).get(0), inFile, logId);
    markOpen(db);
    return db;
  } catch (error) {
    closeDb(db);
    throw mayPass(error) ? error : unusable(error);
  }
}

/** Full, locked or write-protected: that says nothing of what the file holds. */
const mayPass = (error: unknown): boolean =>
  [SQLITE_BUSY, SQLITE_READONLY, SQLITE_FULL, SQLITE_CANTOPEN].includes(resultCode(error)) ||
  (resultCode(error) === SQLITE_IOERR && !isDamage(error));

/** @throws UnusableProjections */
function assertUsable(meta: Meta, inFile: Meta, logId: string): void {
  if (meta.logId !== logId) throw new UnusableProjections('it is of another log');
  if (meta.foldVersion !== FOLD_VERSION) throw new UnusableProjections('it is of a release that reads other events');
  // SQLite applies a WAL to whatever file it finds, be it an older copy.
  if (inFile.commits < meta.inFile || inFile.commits > meta.commits) {
    throw new UnusableProjections('its file and its WAL are of different times');
  }
}

/** From here on a missing WAL means that changes are missing, so the file itself says it. */
function markOpen(db: DatabaseSyncInstance): void {
  const store = new ProjectionStore(db);
  store.describe({ isOpen: true });
  store.commit();
  db.exec('PRAGMA wal_checkpoint(PASSIVE)');
}

/** Closes an open file as whole without its WAL. On a full disk it stays as after a crash; the next start recovers it. */
export function closeFile(db: DatabaseSyncInstance, store: ProjectionStore): void {
  try {
    store.discard();
    store.describe({ isOpen: false });
    store.commit();
    // Closing does not: the binding finalizes statements only when they are garbage-collected.
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  } catch {
    // The WAL has what the file lacks.
  } finally {
    closeDb(db);
  }
}

/** The meta record in the file itself, without its WAL. @throws UnusableProjections */
function readMetaInFile(path: string): Meta {
  const url = pathToFileURL(path);
  url.searchParams.set('immutable', '1');
  try {
    const db = new DatabaseSync(url, { readOnly: true });
    try {
      const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
      if (pragma('application_id') !== APPLICATION_ID) throw new UnusableProjections('it holds no projections');
      if (pragma('user_version') !== FILE_VERSION) throw new UnusableProjections('it is of another release');
      return metaTable(db).get(0);
    } finally {
      closeDb(db);
    }
  } catch (error) {
    throw unusable(error);
  }
}

const metaTable = (db: DatabaseSyncInstance) =>
  new RecordTable(new ProjectionsDb(db, NO_GUARD), 'meta', jsonCodec<Meta>());

function unusable(error: unknown): UnusableProjections {
  if (error instanceof UnusableProjections) return error;
  const { cause, message } = error as Error;
  return cause instanceof Error ? unusable(cause) : new UnusableProjections(`it is damaged: ${message}`);
}

/** Removes a file with what SQLite keeps beside it. */
export function removeFile(path: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true });
}
