import { parentPort, workerData } from 'node:worker_threads';
import { DatabaseSync } from '@photostructure/sqlite';
import { isDamage } from '../../sqlite/result-codes.js';

/** Moves what the WAL of a projections file holds into the file, in a thread of its own: it waits for the disk. */

export type CheckpointReply = {
  /** The file holds all that was committed when the checkpoint began. */
  readonly isComplete: boolean;
  /** Why the file cannot be read; a full disk is no reason. */
  readonly damage?: string;
};

const db = new DatabaseSync(workerData as string);
db.exec('PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 0; PRAGMA cache_size = -512;');

parentPort?.on('message', (request: 'checkpoint' | 'close') => {
  if (request === 'checkpoint') return parentPort?.postMessage(checkpoint());
  db.close();
  parentPort?.close();
});

function checkpoint(): CheckpointReply {
  try {
    // Not prepared once: the binding closes a database that only its statements refer to.
    const row = db.prepare('PRAGMA wal_checkpoint(PASSIVE)').get();
    const { busy, log, checkpointed } = row as { busy: number; log: number; checkpointed: number };
    return { isComplete: busy === 0 && log === checkpointed };
  } catch (error) {
    const { message } = error as Error;
    return { isComplete: false, ...(isDamage(error) && { damage: message }) };
  }
}
