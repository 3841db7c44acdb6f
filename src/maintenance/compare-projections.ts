import { setTimeout } from 'node:timers/promises';
import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { paced } from '../paced.js';
import type { Meta } from '../projections/local/meta.js';
import { closeDb, TABLES } from '../projections/local/projections-db.js';
import { existingSlots, tryClaim } from '../projections/local/slot.js';
import { ProjectionStore } from '../projections/local/store.js';
import { InconclusiveError } from './compare.js';
import type { ScratchProjections } from './scratch-projections.js';

/** A projections file of a folder. */
export type ProjectionsFile = {
  readonly path: string;
  /** Does a living process fold into it? */
  readonly isInUse: boolean;
  /** What it holds; undefined if it cannot be read. */
  readonly held:
    | {
        readonly events: number;
        readonly keys: number;
        readonly quarantined: number;
        /** Of the last event; undefined if there is none. */
        readonly position: Position | undefined;
      }
    | undefined;
};

export type ComparedFile = { readonly keys: number; readonly events: number; readonly position: Position | undefined };

/** How long a file in use may be behind. */
const CATCH_UP_MS = 10_000;
const CATCH_UP_POLL_MS = 50;
/** Records in one query, of up to 32 KB each. */
const ROWS = 100;

/** The projections files in a folder, and how far each is. */
export function findProjectionsFiles(folder: string): ProjectionsFile[] {
  return existingSlots(folder).map((path) => {
    const slot = tryClaim(path);
    slot?.release();
    const held = tryRead(path, ({ meta, position }) => {
      const { events, keys, quarantined } = meta;
      return { events, keys, quarantined, position };
    });
    return { path, isInUse: slot === undefined, held };
  });
}

/**
 * Compares a file, record by record, with projections that this command folded from the log. The file is read in one
 * transaction, so at one position, while its process goes on.
 * @param scratch of the events up to the position of the file or before it; folds on to exactly that position
 * @param onDifference called with each difference
 * @param last where the file was: undefined is returned if it is beyond, because a process has begun to use it
 * @throws InconclusiveError the file is behind, or cannot be opened
 */
export async function compareProjections(
  log: EventStore,
  path: string,
  scratch: ScratchProjections,
  onDifference: (difference: string) => void,
  last?: Position,
): Promise<ComparedFile | undefined> {
  const reached = scratch.store.position;
  for (const deadline = performance.now() + CATCH_UP_MS; ; await setTimeout(CATCH_UP_POLL_MS)) {
    const db = openToRead(path);
    try {
      const store = openStore(db, onDifference);
      if (!store) return { keys: 0, events: 0, position: undefined };
      const { position, meta } = store;
      if (last !== undefined && (position ?? '') > last) return undefined;
      if (meta.logId !== log.logId) {
        onDifference('it is of another log');
        return { keys: meta.keys, events: meta.events, position };
      }
      if ((position ?? '') >= (reached ?? '')) {
        await foldUpTo(log, scratch.store, position);
        if (scratch.store.position === position) await compareTables(db, scratch, onDifference);
        else onDifference(`its last event, at ${position}, is not in the log`);
        return { keys: meta.keys, events: meta.events, position };
      }
    } finally {
      closeDb(db);
    }
    if (performance.now() > deadline) throw new InconclusiveError(`${path} is behind the log: is its process at work?`);
  }
}

function openToRead(path: string): DatabaseSyncInstance {
  try {
    const db = new DatabaseSync(path, { readOnly: true });
    // A process that closes the file locks it for a moment.
    db.exec('PRAGMA busy_timeout = 5000; PRAGMA cache_size = -8192; BEGIN;');
    return db;
  } catch (cause) {
    throw new InconclusiveError(`${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

/** @returns undefined: its first records are damaged, which was reported */
function openStore(db: DatabaseSyncInstance, onDifference: (difference: string) => void): ProjectionStore | undefined {
  try {
    return new ProjectionStore(db);
  } catch (error) {
    onDifference(reasonOf(error));
    return undefined;
  }
}

function tryRead<T>(path: string, read: (store: ProjectionStore) => T): T | undefined {
  try {
    const db = openToRead(path);
    try {
      return read(new ProjectionStore(db));
    } finally {
      closeDb(db);
    }
  } catch {
    return undefined;
  }
}

async function foldUpTo(log: EventStore, store: ProjectionStore, end: Position | undefined): Promise<void> {
  if (end === undefined || store.position === end) return;
  for await (const event of log.readAll(store.position)) {
    if (event.position > end) break;
    store.fold(event);
  }
  store.commit();
}

type Row = { readonly id: number; readonly body: string | Uint8Array; readonly sum: number };

async function compareTables(
  db: DatabaseSyncInstance,
  scratch: ScratchProjections,
  onDifference: (difference: string) => void,
): Promise<void> {
  const giveWay = paced();
  for (const table of Object.keys(TABLES)) {
    try {
      const [actual, expected] = [rowsOf(db, table), rowsOf(scratch.db, table)];
      let [a, b] = [actual.next(), expected.next()];
      for (let compared = 1; !a.done || !b.done; compared++) {
        if (compared % ROWS === 0) await giveWay();
        const [found, wanted] = [a.value, b.value];
        if (!wanted || (found && found.id < wanted.id)) onDifference(`${table}: record ${found?.id} is extra`);
        else if (!found || wanted.id < found.id) onDifference(`${table}: record ${wanted.id} is missing`);
        else if (!isSame(table, found, wanted)) onDifference(`${table}: ${describe(found, wanted)}`);
        const [foundId, wantedId] = [found?.id ?? Number.POSITIVE_INFINITY, wanted?.id ?? Number.POSITIVE_INFINITY];
        if (foundId <= wantedId) a = actual.next();
        if (wantedId <= foundId) b = expected.next();
      }
    } catch (error) {
      onDifference(`${table}: ${reasonOf(error)}`);
    }
  }
}

function* rowsOf(db: DatabaseSyncInstance, table: string): Generator<Row, undefined> {
  const select = db.prepare(`SELECT id, body, sum FROM ${table} WHERE id > ? ORDER BY id LIMIT ${ROWS}`);
  for (let last = -1; ; ) {
    const rows = select.all(last) as Row[];
    yield* rows;
    const end = rows.at(-1);
    if (!end) return undefined;
    last = end.id;
  }
}

function isSame(table: string, found: Row, wanted: Row): boolean {
  if (table === 'meta') return isSameMeta(found, wanted);
  if (found.sum !== wanted.sum || typeof found.body !== typeof wanted.body) return false;
  if (typeof found.body === 'string') return found.body === wanted.body;
  return Buffer.compare(found.body, wanted.body as Uint8Array) === 0;
}

/** Files differ in how they were written, and in how many foreign events they count. */
function isSameMeta(found: Row, wanted: Row): boolean {
  const comparable = ({ body }: Row) => {
    const meta = JSON.parse(body as string) as Meta;
    return JSON.stringify({ ...meta, commits: 0, inFile: 0, isOpen: false, foreignEvents: 0 });
  };
  return comparable(found) === comparable(wanted);
}

function describe({ id, body, sum }: Row, wanted: Row): string {
  if (typeof body !== 'string' || typeof wanted.body !== 'string') return `record ${id} differs from the log`;
  if (body === wanted.body) return `record ${id} has the checksum ${sum} instead of ${wanted.sum}`;
  return `record ${id} is ${JSON.stringify(body)}, by the log ${JSON.stringify(wanted.body)}`;
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
