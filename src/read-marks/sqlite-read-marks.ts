import type { BaseLogger } from 'pino';
import { inTransaction, SidecarDb } from '../sqlite/sidecar-db.js';
import { MAX_MARKS, type ReadMarks } from './read-marks.js';

/** 'KRMk' */
const APPLICATION_ID = 0x4b524d6b;

/** Read marks in a SQLite file, see SidecarDb. */
export function openSqliteReadMarks(file: string, logger: BaseLogger): ReadMarks {
  const sidecar = new SidecarDb(
    file,
    {
      applicationId: APPLICATION_ID,
      version: 1,
      what: 'read marks',
      synchronous: 'OFF',
      schema: `
        CREATE TABLE IF NOT EXISTS read_marks (
          serial INTEGER PRIMARY KEY,
          caller TEXT NOT NULL,
          event_number INTEGER NOT NULL,
          UNIQUE (caller, event_number)
        ) STRICT;`,
      prepare: (db) => ({
        db,
        insert: db.prepare(
          'INSERT OR IGNORE INTO read_marks (caller, event_number) SELECT ?1, value FROM json_each(?2)',
        ),
        trim: db.prepare(`
          DELETE FROM read_marks WHERE caller = ?1 AND serial <= (
            SELECT serial FROM read_marks WHERE caller = ?1 ORDER BY serial DESC LIMIT 1 OFFSET ${MAX_MARKS})`),
        remove: db.prepare(
          'DELETE FROM read_marks WHERE caller = ? AND event_number IN (SELECT value FROM json_each(?))',
        ),
        select: db.prepare('SELECT event_number FROM read_marks WHERE caller = ?'),
        selectAmong: db.prepare(
          'SELECT event_number FROM read_marks WHERE caller = ? AND event_number IN (SELECT value FROM json_each(?))',
        ),
      }),
    },
    logger,
  );
  return {
    mark: (caller, eventNumbers) =>
      sidecar.run(({ db, insert, trim }) =>
        inTransaction(db, () => {
          insert.run(caller, JSON.stringify(eventNumbers));
          trim.run(caller);
        }),
      ),
    unmark: (caller, eventNumbers) =>
      sidecar.run(({ remove }) => void remove.run(caller, JSON.stringify(eventNumbers))),
    of: async (caller) => numbersIn(await sidecar.run(({ select }) => select.all(caller) as Row[])),
    among: async (caller, eventNumbers) =>
      numbersIn(await sidecar.run(({ selectAmong }) => selectAmong.all(caller, JSON.stringify(eventNumbers)) as Row[])),
    close: async () => sidecar.close(),
  };
}

type Row = { readonly event_number: number };

const numbersIn = (rows: readonly Row[]): ReadonlySet<number> => new Set(rows.map(({ event_number }) => event_number));
