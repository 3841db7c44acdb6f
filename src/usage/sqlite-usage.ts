import { closeSync, fstatSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DatabaseSync, type DatabaseSyncInstance, type StatementSyncInstance } from '@photostructure/sqlite';
import type { BaseLogger } from 'pino';
import type { UsageStore, Use } from './usage-store.js';

/** 'KUse': tells a file of ours from any other SQLite file. */
const APPLICATION_ID = 0x4b557365;
const FILE_VERSION = 1;
/** While another process writes: about half a second, in which the event loop does not wait (SQLite itself would block it). */
const BUSY_TRIES = 50;
const BUSY_RETRY_MS = 20;
/** After a failure. A database that was closed keeps its descriptors until its statements are collected as garbage. */
const OPEN_AGAIN_MS = 1000;

/** Result codes, https://www.sqlite.org/rescode.html */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/**
 * Last uses in a SQLite file, which several processes may share. It is opened, and made if need be, at the
 * first call, again if it was removed, and again after a failure, but not more than once a second. A file that is broken or none of ours is moved
 * to `<file>.broken`, over an earlier one, and begun anew.
 */
export const openSqliteUsage = (file: string, logger: BaseLogger): UsageStore =>
  new SqliteUsage(resolve(file), logger);

class NotOurs extends Error {}

type Database = {
  readonly db: DatabaseSyncInstance;
  readonly upsert: StatementSyncInstance;
  readonly select: StatementSyncInstance;
};

class SqliteUsage implements UsageStore {
  readonly #file: string;
  readonly #logger: BaseLogger;
  #database: Database | undefined;
  /** Of the file that was opened last: another process may have begun anew meanwhile. */
  #inode = 0;
  #failure: unknown;
  #openAgainAt = 0;
  #closed = false;

  constructor(file: string, logger: BaseLogger) {
    this.#file = file;
    this.#logger = logger;
  }

  async write(batch: readonly Use[]): Promise<void> {
    await this.#run(({ upsert }) => upsert.run(JSON.stringify(batch)));
  }

  async read(apiKeyIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const rows = (await this.#run(({ select }) => select.all(JSON.stringify(apiKeyIds)))) as Row[];
    return new Map(rows.map(({ api_key_id, at }) => [api_key_id, at]));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leave();
  }

  async #run<T>(work: (database: Database) => T): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return this.#evenIfBroken(work);
      } catch (error) {
        if (resultCode(error) !== SQLITE_BUSY || tries === BUSY_TRIES) throw error;
      }
      await setTimeout(Math.random() * BUSY_RETRY_MS);
    }
  }

  #evenIfBroken<T>(work: (database: Database) => T): T {
    if (this.#closed) throw new Error('The last uses are closed');
    if (!this.#database && performance.now() < this.#openAgainAt) throw this.#failure;
    try {
      return this.#try(work);
    } catch (error) {
      if (!isBroken(error)) throw error;
      this.#moveAside(error as Error);
      return this.#try(work);
    }
  }

  #try<T>(work: (database: Database) => T): T {
    if (this.#database && !this.#isInPlace()) this.#leave();
    try {
      this.#database ??= this.#open();
      return work(this.#database);
    } catch (error) {
      if (resultCode(error) === SQLITE_BUSY) throw error;
      this.#leave();
      this.#failure = error;
      this.#openAgainAt = performance.now() + OPEN_AGAIN_MS;
      throw error;
    }
  }

  #open(): Database {
    mkdirSync(dirname(this.#file), { recursive: true });
    const descriptor = openSync(this.#file, 'a', 0o600);
    this.#inode = fstatSync(descriptor).ino;
    closeSync(descriptor);
    const db = new DatabaseSync(this.#file);
    try {
      // It may forget, so it does not wait for the disk.
      db.exec('PRAGMA busy_timeout = 0; PRAGMA synchronous = OFF;');
      migrate(db);
      const upsert = db.prepare(`
        INSERT INTO last_used SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true
        ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > at`);
      const select = db.prepare(
        'SELECT api_key_id, at FROM last_used WHERE api_key_id IN (SELECT value FROM json_each(?))',
      );
      return { db, upsert, select };
    } catch (error) {
      db.close();
      throw error;
    }
  }

  #leave(): void {
    const database = this.#database;
    this.#database = undefined;
    database?.db.close();
  }

  #isInPlace(): boolean {
    return statSync(this.#file, { throwIfNoEntry: false })?.ino === this.#inode;
  }

  /** What belongs to it goes first: a new file must not find the journal of the broken one. */
  #moveAside(why: Error): void {
    if (!this.#isInPlace()) return;
    for (const suffix of ['-wal', '-shm']) rmSync(this.#file + suffix, { force: true });
    renameSync(this.#file, `${this.#file}.broken`);
    this.#logger.warn(
      { err: why },
      `${this.#file} is broken: it was moved to ${this.#file}.broken, and last uses are kept anew`,
    );
  }
}

type Row = { api_key_id: string; at: number };

function migrate(db: DatabaseSyncInstance): void {
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
  if (pragma('application_id') === 0 && pragma('schema_version') === 0) {
    db.exec(`
      PRAGMA journal_mode = WAL;
      BEGIN IMMEDIATE;
      CREATE TABLE IF NOT EXISTS last_used (
        api_key_id TEXT PRIMARY KEY,
        at INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      PRAGMA application_id = ${APPLICATION_ID};
      PRAGMA user_version = ${FILE_VERSION};
      COMMIT;`);
  }
  if (pragma('application_id') !== APPLICATION_ID || pragma('user_version') !== FILE_VERSION) {
    throw new NotOurs('It does not hold last uses of this release');
  }
}

const resultCode = (error: unknown): number => ((error as { errcode?: number }).errcode ?? 0) & 0xff;

const isBroken = (error: unknown): boolean =>
  error instanceof NotOurs || [SQLITE_CORRUPT, SQLITE_NOTADB].includes(resultCode(error));
