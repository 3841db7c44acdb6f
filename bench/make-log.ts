import { once } from 'node:events';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { startProgressBar } from '../src/cli/progress-bar.js';
import type { AppendRequest } from '../src/event-store/event-store.js';
import { isEventStoreUrl, openEventStore } from '../src/event-store/open.js';
import { encodeAppend } from '../src/event-store/sqlite/bulk-append.js';
import { generateAppends } from './generate-appends.js';
import type { EventRow } from './write-sqlite-log.js';

/**
 * Fills an empty log with the life of many keys, see `generateAppends`: `make-log <sqlite file or esdb url> [events]`.
 * A SQLite file is made at full speed beside its place and moved there when it is whole.
 */

const BATCH_ROWS = 4000;
/** Batches that may wait for the writer. */
const MAX_WAITING = 4;

async function main(target: string | undefined, total: number): Promise<void> {
  if (!target || !(total > 0)) throw new Error('make-log <sqlite file or esdb url> [events=1000000]');
  const started = performance.now();
  const progress = startProgressBar('Making', total);
  let made = 0;
  function* counted(): Generator<AppendRequest> {
    for (const append of generateAppends(total)) {
      yield append;
      made += append.events.length;
      progress.add(append.events.length);
    }
  }
  await (isEventStoreUrl(target) ? fillEventStoreDb(target, counted()) : makeSqliteLog(target, counted()));
  progress.end();
  const seconds = (performance.now() - started) / 1000;
  console.log(`${made} events in ${seconds.toFixed(1)} s, ${(made / seconds).toFixed(0)} events/s`);
}

async function fillEventStoreDb(url: string, appends: Generator<AppendRequest>): Promise<void> {
  const onFatal = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(url, { onFatal, warn: console.error });
  await log.bulkAppend(
    (async function* () {
      yield* appends;
    })(),
  );
  await log.close();
}

async function makeSqliteLog(path: string, appends: Generator<AppendRequest>): Promise<void> {
  if (existsSync(path)) throw new Error(`${path} exists. Remove it, or name another file`);
  const unfinished = `${path}.unfinished`;
  for (const suffix of ['', '-wal', '-shm']) rmSync(unfinished + suffix, { force: true });
  const writer = new Worker(new URL('./write-sqlite-log.js', import.meta.url), { workerData: unfinished });
  const ended = once(writer, 'exit');
  let waiting = 0;
  writer.on('message', () => waiting--);
  const send = async (rows: EventRow[]) => {
    writer.postMessage(rows);
    if (++waiting >= MAX_WAITING) await once(writer, 'message');
  };
  let rows: EventRow[] = [];
  for (const append of appends) {
    const { stream, events, expectedRevision } = encodeAppend(append);
    let revision = expectedRevision === 'no-stream' ? -1 : expectedRevision;
    for (const event of events) rows.push([stream, ++revision, ...event]);
    if (rows.length < BATCH_ROWS) continue;
    await send(rows);
    rows = [];
  }
  writer.postMessage(rows);
  writer.postMessage('end');
  await ended;
  renameSync(unfinished, path);
}

await main(process.argv[2], Number(process.argv[3] ?? 1_000_000));
