import { existsSync, type Stats, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { DatabaseSyncInstance } from '@photostructure/sqlite';
import { isDamage } from '../../sqlite/result-codes.js';
import type { CheckpointReply } from './checkpointer.js';
import { closeFile, openFile } from './file.js';
import { closeDb, type DamageGuard } from './projections-db.js';
import { ProjectionStore } from './store.js';

/** Interval of checks that nobody removed, replaced or changed the file. */
const FILE_CHECK_MS = 200;
/** A read trusts a check this long. */
const CHECK_VALID_MS = 2;
/** Commits move from the WAL into the file at this interval, or after this many records. */
const CHECKPOINT_MS = 1000;
const CHECKPOINT_RECORDS = 1000;
/**
 * Records in the WAL, of a page or two each, above which the next commit waits: SQLite starts the WAL anew only when the
 * file holds all of it.
 */
const MAX_WAL_RECORDS = 5000;

export type LiveFileEvents = { readonly onDamage: (error: Error) => void; readonly onNext: () => void };

/** Where `projection rebuild` leaves a file that the process which uses this one takes over. */
export const nextPath = (path: string): string => `${path}.next`;
/** That file while its process folds into it what came since: torn, if the process ends meanwhile. */
export const takenPath = (path: string): string => `${path}.taken`;

/**
 * An open projections file that this process folds into. Another thread moves commits from the WAL into the file, because
 * that waits for the disk.
 */
export class LiveFile implements DamageGuard {
  readonly path: string;
  readonly store: ProjectionStore;
  readonly #db: DatabaseSyncInstance;
  readonly #events: LiveFileEvents;
  readonly #checkpointer: Worker;
  readonly #checkpointerEnded: Promise<void>;
  readonly #timers: NodeJS.Timeout[];
  readonly #inode: number;
  /** What the file looked like after its last checkpoint. */
  #seen: Stats;
  #checkedAt = 0;
  #checkpointing: Promise<CheckpointReply> | undefined;
  #replied: (reply: CheckpointReply) => void = () => undefined;
  /** Records that were written since the WAL last began anew. */
  #walRecords = 1;
  #isClosed = false;

  /**
   * @param events.onDamage called when a read fails or somebody else has touched the file
   * @param events.onNext called when a file lies beside it that is to take its place, see nextPath
   * @throws UnusableProjections, Error of SQLite
   */
  constructor(path: string, logId: string, events: LiveFileEvents) {
    this.path = path;
    this.#events = events;
    this.#db = openFile(path, logId);
    this.#seen = statSync(path);
    this.#inode = this.#seen.ino;
    this.store = new ProjectionStore(this.#db, this);
    this.#checkpointer = new Worker(new URL('./checkpointer.js', import.meta.url), { workerData: path });
    this.#checkpointer.on('message', (reply: CheckpointReply) => this.#replied(reply));
    this.#checkpointer.on('error', (error) => this.damaged(error));
    this.#checkpointerEnded = new Promise((resolve) => this.#checkpointer.once('exit', () => resolve()));
    void this.#checkpointerEnded.then(() => this.#replied({ isComplete: false }));
    this.#checkpointer.unref();
    this.#timers = [
      setInterval(() => this.#check(), FILE_CHECK_MS).unref(),
      setInterval(() => this.#checkpointSoon(), CHECKPOINT_MS).unref(),
    ];
  }

  /** Commits what was folded. @throws Error see ProjectionStore.commit */
  commit(): void {
    try {
      this.#walRecords += this.store.commit();
    } catch (error) {
      if (isDamage(error)) this.damaged(error as Error);
      throw error;
    }
    if (this.#walRecords >= CHECKPOINT_RECORDS) this.#checkpointSoon();
  }

  /** Resolves when the WAL has room for another commit, mostly at once. */
  async walHasRoom(): Promise<void> {
    if (this.#walRecords <= MAX_WAL_RECORDS) return;
    await this.#checkpointing;
    await this.#checkpoint();
  }

  assertUntouched(): void {
    if (this.#isClosed || performance.now() - this.#checkedAt < CHECK_VALID_MS) return;
    const now = statSync(this.path, { throwIfNoEntry: false });
    if (!now) throw new Error(`${this.path} was removed`);
    if (now.ino !== this.#inode) throw new Error(`${this.path} was replaced`);
    const { size, mtimeMs } = this.#seen;
    if (!this.#checkpointing && (now.size !== size || now.mtimeMs !== mtimeMs)) {
      throw new Error(`${this.path} was changed by another program`);
    }
    this.#checkedAt = performance.now();
  }

  damaged(error: Error): void {
    if (!this.#isClosed) this.#events.onDamage(error);
  }

  /** Stops looking after the file, of which another one takes the place. Readers may finish with what they have begun. */
  retire(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    // Not terminated: that may abort the process in the middle of a call of SQLite.
    this.#checkpointer.postMessage('close');
  }

  /** Ends all use of the file. Only one that was closed as whole needs no WAL to be opened again. */
  async close(how: 'whole' | 'as it is'): Promise<void> {
    if (this.#isClosed) return;
    this.#checkpointer.ref();
    this.retire();
    await this.#checkpointerEnded;
    if (how === 'whole') closeFile(this.#db, this.store);
    else closeDb(this.#db);
  }

  #check(): void {
    try {
      if (existsSync(nextPath(this.path))) this.#events.onNext();
      this.assertUntouched();
    } catch (error) {
      this.damaged(error as Error);
    }
  }

  #checkpointSoon(): void {
    this.#checkpoint().catch((error: Error) => this.damaged(error));
  }

  /** Moves the commits into the file, unless there are none, or that is under way. */
  async #checkpoint(): Promise<void> {
    if (this.#checkpointing || this.#walRecords === 0 || this.#isClosed) return;
    this.#check();
    const { commits } = this.store.meta;
    this.#checkpointing = new Promise((resolve) => {
      this.#replied = resolve;
    });
    this.#checkpointer.postMessage('checkpoint');
    const { isComplete, damage } = await this.#checkpointing;
    this.#checkpointing = undefined;
    // Commits of the meantime are not in the file, and come after the others in the WAL.
    if (isComplete && this.store.meta.commits === commits) this.#walRecords = 0;
    if (isComplete) this.store.describe({ inFile: commits });
    const now = statSync(this.path, { throwIfNoEntry: false });
    if (now) this.#seen = now;
    if (damage) this.damaged(new Error(damage));
  }
}
