import type { EventStore } from '../../event-store/event-store.js';
import { fractionBefore } from '../../event-store/position.js';
import { paced } from '../../paced.js';
import { type BuildProgress, createFile, finishFile } from './file.js';
import { closeDb } from './projections-db.js';
import type { ProjectionStore } from './store.js';

/** Events in one transaction: the larger, the more changes of a key become one. */
const COMMIT_EVENTS = 30_000;
/** A build is whole when this few events have come since it last looked. */
const CAUGHT_UP_EVENTS = 1000;
const PROGRESS_MS = 500;

/**
 * Builds a projections file from the whole log, in transactions that are not durable: only the last step makes the file
 * whole and durable. Blocks the event loop for up to a second at a time.
 * @throws Error the log or the disk fails; what is written so far is of no use
 */
export async function buildProjections(
  log: EventStore,
  path: string,
  onProgress: (progress: BuildProgress) => void,
): Promise<void> {
  const { db, store } = createFile(path, log.logId);
  try {
    const startedAt = performance.now();
    let reportedAt = startedAt;
    let events = 0;
    for (let before = Number.NEGATIVE_INFINITY; events - before > CAUGHT_UP_EVENTS; ) {
      before = events;
      const end = await log.end();
      for await (const event of log.readAll(store.position, () => store.skipForeign(1))) {
        store.fold(event);
        if (++events % COMMIT_EVENTS === 0) store.commit();
        if (performance.now() - reportedAt < PROGRESS_MS) continue;
        reportedAt = performance.now();
        onProgress(progressOf(events, fractionBefore(event.position, end), (reportedAt - startedAt) / 1000));
      }
      store.commit();
    }
    onProgress(progressOf(events, 1, (performance.now() - startedAt) / 1000));
  } catch (error) {
    closeDb(db);
    throw error;
  }
  await finishFile(db, path, path);
}

function progressOf(events: number, fraction: number, seconds: number): BuildProgress {
  const of = Math.round(events / Math.max(fraction, 1e-9));
  const perSecond = Math.round(events / seconds);
  return { events, of, perSecond, secondsLeft: Math.ceil((of - events) / Math.max(1, perSecond)) };
}

/** Events in one transaction of `foldRest`, and so in one turn of the event loop: a few milliseconds. */
const REST_COMMIT_EVENTS = 64;

/** Folds into a file that is being built the events that it lacks, in turns that the event loop does not notice. */
export async function foldRest(log: EventStore, store: ProjectionStore): Promise<void> {
  const giveWay = paced();
  let events = 0;
  for await (const event of log.readAll(store.position, () => store.skipForeign(1))) {
    store.fold(event);
    if (++events % REST_COMMIT_EVENTS > 0) continue;
    store.commit();
    await giveWay();
  }
  store.commit();
}
