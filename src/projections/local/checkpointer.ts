import { parentPort, workerData } from 'node:worker_threads';
import { DatabaseSync } from '@photostructure/sqlite';

/** Moves what the WAL of a projections file holds into the file, in a thread of its own: it waits for the disk. */

/** isComplete: the file holds all that was committed when the checkpoint began. */
export type CheckpointReply = { readonly isComplete: boolean };

const db = new DatabaseSync(workerData as string);
db.exec('PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 0; PRAGMA cache_size = -512;');

parentPort?.on('message', () => {
  // The binding closes a database that only its statements refer to.
  const checkpoint = db.prepare('PRAGMA wal_checkpoint(PASSIVE)');
  const { busy, log, checkpointed } = checkpoint.get() as { busy: number; log: number; checkpointed: number };
  parentPort?.postMessage({ isComplete: busy === 0 && log === checkpointed } satisfies CheckpointReply);
});
