import type { DatabaseSyncInstance, StatementSyncInstance } from '@photostructure/sqlite';
import { KeyledgerError } from '../../domain/errors.js';

/** The tables of a projections file. Each is a RecordTable. */
export const TABLES = {
  meta: 'TEXT',
  repositories: 'TEXT',
  keys: 'TEXT',
  webhooks: 'TEXT',
  event_columns: 'BLOB',
  event_times: 'TEXT',
  latest_events: 'BLOB',
  repository_events: 'TEXT',
  keys_by_id: 'TEXT',
  keys_by_access_key: 'TEXT',
  repositories_by_name: 'TEXT',
  webhooks_by_id: 'TEXT',
} as const;

export const SCHEMA = Object.entries(TABLES)
  .map(
    ([name, type]) =>
      `CREATE TABLE ${name} (id INTEGER PRIMARY KEY, body ${type} NOT NULL, sum INTEGER NOT NULL) STRICT;`,
  )
  .join('\n');

/** An open projections file. A read of it that fails, in whatever way, is damage. */
export class ProjectionsDb {
  readonly #db: DatabaseSyncInstance;
  readonly #guard: DamageGuard;
  #isReading = false;

  constructor(db: DatabaseSyncInstance, guard: DamageGuard) {
    this.#db = db;
    this.#guard = guard;
  }

  prepare(sql: string): StatementSyncInstance {
    return this.#db.prepare(sql);
  }

  /** @throws KeyledgerError PROJECTIONS_DAMAGED */
  read<T>(query: () => T): T {
    try {
      this.#guard.assertUntouched();
      this.#beginReading();
      return query();
    } catch (cause) {
      throw this.damaged((cause as Error).message, cause);
    }
  }

  /** Begins a transaction that writes, unless one is open. @throws Error of SQLite: the file is locked or not writable */
  beginWriting(): void {
    this.#endReading();
    if (!this.#db.isTransaction) this.#db.exec('BEGIN IMMEDIATE');
  }

  commit(): void {
    this.#db.exec('COMMIT');
  }

  rollback(): void {
    this.#isReading = false;
    if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
  }

  /** The reads of one turn of the event loop share a transaction: each by itself locks and unlocks the file, which takes as long. */
  #beginReading(): void {
    if (this.#db.isTransaction) return;
    this.#db.exec('BEGIN');
    this.#isReading = true;
    setImmediate(() => this.#endReading());
  }

  #endReading(): void {
    const isOver = !this.#isReading || !this.#db.isOpen || !this.#db.isTransaction;
    this.#isReading = false;
    if (isOver) return;
    try {
      this.#db.exec('ROLLBACK');
    } catch (cause) {
      this.damaged((cause as Error).message, cause);
    }
  }

  /** Reports damage. @returns the error to throw */
  damaged(message: string, cause?: unknown): KeyledgerError {
    const error = new KeyledgerError('PROJECTIONS_DAMAGED', { cause: new Error(message, { cause }) });
    this.#guard.damaged(error);
    return error;
  }
}

/** Closes a database. It would stay locked while a transaction is open, until its statements are garbage-collected. */
export function closeDb(db: DatabaseSyncInstance): void {
  try {
    if (db.isTransaction) db.exec('ROLLBACK');
  } catch {
    // Of a damaged file nothing is kept.
  } finally {
    db.close();
  }
}

export type DamageGuard = {
  /** @throws Error somebody else has changed, replaced or removed the file */
  assertUntouched(): void;
  /** Learns of each failure of a read before it is thrown. */
  damaged(error: Error): void;
};

/** For a file that nobody else can change, or that is only inspected. */
export const NO_GUARD: DamageGuard = { assertUntouched: () => undefined, damaged: () => undefined };
