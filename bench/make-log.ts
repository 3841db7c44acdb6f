import { on } from 'node:events';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { startProgressBar } from '../src/cli/progress-bar.js';
import type { AppendRequest } from '../src/event-store/event-store.js';
import { isEventStoreUrl, openEventStore } from '../src/event-store/open.js';
import { openLogFile, STREAM_INDEX } from '../src/event-store/sqlite/schema.js';
import { generateAppends } from './generate-appends.js';
import type { EventRow, Part } from './generate-rows.js';

/**
 * Fills an empty log with the life of many keys, see `generateAppends`: `make-log <sqlite file or esdb url> [events]`.
 * A SQLite file is made at full speed beside its place and moved there when it is whole.
 */

/** Threads that make the events of a SQLite file; making one takes three times as long as writing it. */
const MAKERS = 2;

async function main(target: string | undefined, total: number): Promise<void> {
  if (!target || !(total > 0)) throw new Error('make-log <sqlite file or esdb url> [events=1000000]');
  const started = performance.now();
  const progress = startProgressBar('Making', total);
  let made = 0;
  const count = (events: number) => {
    made += events;
    progress.add(events);
  };
  await (isEventStoreUrl(target) ? fillEventStoreDb(target, total, count) : makeSqliteLog(target, total, count));
  progress.end();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${made} events in ${seconds.toFixed(1)} s, ${(made / seconds).toFixed(0)} events/s`);
}

type Count = (events: number) => void;

async function fillEventStoreDb(url: string, total: number, count: Count): Promise<void> {
  const onFatal = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(url, { onFatal, warn: console.error });
  await log.bulkAppend(
    (async function* (): AsyncGenerator<AppendRequest> {
      for (const append of generateAppends(total)) {
        yield append;
        count(append.events.length);
      }
    })(),
  );
  await log.close();
}

/** Without a journal, and with the index made at the end, both of which a log in use needs from the start. */
async function makeSqliteLog(path: string, total: number, count: Count): Promise<void> {
  if (existsSync(path)) throw new Error(`${path} exists. Remove it, or name another file`);
  const unfinished = `${path}.unfinished`;
  for (const suffix of ['', '-wal', '-shm']) rmSync(unfinished + suffix, { force: true });
  const { db } = await openLogFile(unfinished);
  db.enableDefensive(false);
  db.exec(`DROP INDEX ${STREAM_INDEX.name}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN`);
  const insert = db.prepare('INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
  const recordedAt = Date.now();
  let place = 1;
  for await (const rows of batchesInTurn(total)) {
    for (const [stream, revision, id, type, data, metadata] of rows) {
      insert.run(++place, stream, revision, id, type, data, metadata, recordedAt);
    }
    count(rows.length);
  }
  db.exec(`COMMIT; ${STREAM_INDEX.create}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`);
  db.close();
  renameSync(unfinished, path);
}

/** A batch of each maker in turn, so that every run makes the same order. */
async function* batchesInTurn(total: number): AsyncGenerator<readonly EventRow[]> {
  let makers = Array.from({ length: MAKERS }, (_, i) => {
    const part: Part = { total: Math.ceil((total - i) / MAKERS), seed: i + 1 };
    const worker = new Worker(new URL('./generate-rows.js', import.meta.url), { workerData: part });
    return { worker, messages: on(worker, 'message') };
  });
  while (makers.length > 0) {
    const finished = new Set<Worker>();
    for (const { worker, messages } of makers) {
      const [rows] = (await messages.next()).value as [readonly EventRow[] | null];
      if (rows === null) finished.add(worker);
      else yield rows;
      if (rows !== null) worker.postMessage('written');
    }
    makers = makers.filter(({ worker }) => !finished.has(worker));
  }
}

await main(process.argv[2], Number(process.argv[3] ?? 1_000_000));
