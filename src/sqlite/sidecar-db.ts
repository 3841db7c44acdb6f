import { closeSync, fstatSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import type { BaseLogger } from 'pino';
import { resultCode, SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_NOTADB } from './result-codes.js';

/** Retries for about half a second while another process writes, without blocking the event loop as SQLite would. */
const MAX_BUSY_ATTEMPTS = 50;
const BUSY_RETRY_MS = 20;
/** Delay after a failure: a closed database keeps its descriptors until its statements are garbage-collected. */
const REOPEN_DELAY_MS = 1000;

export type SidecarSchema<Statements> = {
  /** Distinguishes the file from other SQLite files: https://www.sqlite.org/pragma.html#pragma_application_id */
  readonly applicationId: number;
  readonly version: number;
  /** The contents, for messages. */
  readonly what: string;
  /** https://www.sqlite.org/pragma.html#pragma_synchronous */
  readonly synchronous: 'OFF' | 'NORMAL';
  /** Creates the tables unless they exist. */
  readonly schema: string;
  readonly prepare: (db: DatabaseSyncInstance) => Statements;
};

type Database<Statements> = { readonly db: DatabaseSyncInstance; readonly statements: Statements };

class ForeignFileError extends Error {}

/**
 * Data beside the log that may be lost, in a SQLite file that several processes may share. Opens the file, and creates
 * it if needed, at the first call, after its removal, and after a failure, at most once a second. Moves a broken or
 * foreign file to `<file>.broken`, over an earlier one, and creates a new one.
 */
export class SidecarDb<Statements> {
  readonly #file: string;
  readonly #definition: SidecarSchema<Statements>;
  readonly #logger: BaseLogger;
  #database: Database<Statements> | undefined;
  /** Of the file that was opened last: another process may have replaced it meanwhile. */
  #inode = 0;
  #failure: unknown;
  #reopenAt = 0;
  #closed = false;

  constructor(file: string, definition: SidecarSchema<Statements>, logger: BaseLogger) {
    this.#file = resolve(file);
    this.#definition = definition;
    this.#logger = logger;
  }

  /** @throws Error the file is unavailable */
  async run<T>(work: (statements: Statements) => T): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return this.#runRecovering(work);
      } catch (error) {
        if (resultCode(error) !== SQLITE_BUSY || attempt === MAX_BUSY_ATTEMPTS) throw error;
      }
      await setTimeout(Math.random() * BUSY_RETRY_MS);
    }
  }

  close(): void {
    this.#closed = true;
    this.#closeDatabase();
  }

  #runRecovering<T>(work: (statements: Statements) => T): T {
    if (this.#closed) throw new Error(`${this.#file} is closed`);
    if (!this.#database && performance.now() < this.#reopenAt) throw this.#failure;
    try {
      return this.#runOnce(work);
    } catch (error) {
      if (!isBroken(error)) throw error;
      this.#moveAside(error as Error);
      return this.#runOnce(work);
    }
  }

  #runOnce<T>(work: (statements: Statements) => T): T {
    if (this.#database && !this.#isInPlace()) this.#closeDatabase();
    try {
      this.#database ??= this.#open();
      return work(this.#database.statements);
    } catch (error) {
      if (resultCode(error) === SQLITE_BUSY) throw error;
      this.#closeDatabase();
      this.#failure = error;
      this.#reopenAt = performance.now() + REOPEN_DELAY_MS;
      throw error;
    }
  }

  #open(): Database<Statements> {
    mkdirSync(dirname(this.#file), { recursive: true });
    const descriptor = openSync(this.#file, 'a', 0o600);
    this.#inode = fstatSync(descriptor).ino;
    closeSync(descriptor);
    const db = new DatabaseSync(this.#file);
    try {
      db.exec(`PRAGMA busy_timeout = 0; PRAGMA synchronous = ${this.#definition.synchronous};`);
      createOrCheck(db, this.#definition);
      return { db, statements: this.#definition.prepare(db) };
    } catch (error) {
      db.close();
      throw error;
    }
  }

  #closeDatabase(): void {
    const database = this.#database;
    this.#database = undefined;
    database?.db.close();
  }

  #isInPlace(): boolean {
    return statSync(this.#file, { throwIfNoEntry: false })?.ino === this.#inode;
  }

  /** Removes the WAL first: a new file must not find that of the broken one. */
  #moveAside(cause: Error): void {
    if (!this.#isInPlace()) return;
    for (const suffix of ['-wal', '-shm']) rmSync(this.#file + suffix, { force: true });
    renameSync(this.#file, `${this.#file}.broken`);
    const moved = `${this.#file} is broken and was moved to ${this.#file}.broken`;
    this.#logger.warn({ err: cause }, `${moved}; ${this.#definition.what} start empty`);
  }
}

export function inTransaction<T>(db: DatabaseSyncInstance, work: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function createOrCheck(
  db: DatabaseSyncInstance,
  { applicationId, version, what, schema }: SidecarSchema<unknown>,
): void {
  const pragma = (name: string) => Object.values(db.prepare(`PRAGMA ${name}`).get() as object)[0] as number;
  if (pragma('application_id') === 0 && pragma('schema_version') === 0) {
    db.exec(`
      PRAGMA journal_mode = WAL;
      BEGIN IMMEDIATE;
      ${schema}
      PRAGMA application_id = ${applicationId};
      PRAGMA user_version = ${version};
      COMMIT;`);
  }
  if (pragma('application_id') !== applicationId || pragma('user_version') !== version) {
    throw new ForeignFileError(`It does not hold ${what} of this release`);
  }
}

const isBroken = (error: unknown): boolean =>
  error instanceof ForeignFileError || [SQLITE_CORRUPT, SQLITE_NOTADB].includes(resultCode(error));
