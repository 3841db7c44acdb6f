import { existsSync, type Stats, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { DatabaseSyncInstance } from '@photostructure/sqlite';
import { isDamage } from '../../sqlite/result-codes.js';
import type { CheckpointReply } from './checkpointer.js';
import { closeFile, openFile } from './file.js';
import type { DamageGuard } from './projections-db.js';
import { ProjectionStore } from './store.js';

/** Interval of checks that nobody removed, replaced or changed the file. */
const FILE_CHECK_MS = 200;
/** A read trusts a check this long. */
const CHECK_VALID_MS = 2;
/** Interval at which commits move from the WAL into the file, unless many come sooner. */
const CHECKPOINT_MS = 1000;
const CHECKPOINT_COMMITS = 100;

export type LiveFileEvents = { readonly onDamage: (error: Error) => void; readonly onNext: () => void };

/** Where `projection rebuild` leaves a file that the process which uses this one takes over. */
export const nextPath = (path: string): string => `${path}.next`;

/**
 * An open projections file that this process folds into. Another thread moves commits from the WAL into the file, because
 * that waits for the disk.
 */
export class LiveFile implements DamageGuard {
  readonly path: string;
  readonly store: ProjectionStore;
  readonly #db: DatabaseSyncInstance;
  readonly #onDamage: LiveFileEvents['onDamage'];
  readonly #onNext: LiveFileEvents['onNext'];
  readonly #checkpointer: Worker;
  readonly #timers: NodeJS.Timeout[];
  /** What the file looked like after its last checkpoint; undefined while one is under way. */
  #seen: Stats | undefined;
  #checkedAt = 0;
  /** Commits when the checkpoint under way began, and when the last one did. */
  #checkpointing: number | undefined;
  #checkpointed: number;
  #isClosed = false;

  /**
   * @param events.onDamage called when a read fails or somebody else has touched the file
   * @param events.onNext called when a file lies beside it that is to take its place, see nextPath
   * @throws UnusableProjections, Error of SQLite
   */
  constructor(path: string, logId: string, { onDamage, onNext }: LiveFileEvents) {
    this.path = path;
    this.#onDamage = onDamage;
    this.#onNext = onNext;
    this.#db = openFile(path, logId);
    this.#seen = statSync(path);
    this.store = new ProjectionStore(this.#db, this);
    this.#checkpointed = this.store.meta.commits;
    this.#checkpointer = new Worker(new URL('./checkpointer.js', import.meta.url), { workerData: path });
    this.#checkpointer.on('message', (reply: CheckpointReply) => this.#checkpointDone(reply));
    this.#checkpointer.on('error', (error) => this.damaged(error));
    this.#checkpointer.unref();
    this.#timers = [
      setInterval(() => this.#check(), FILE_CHECK_MS).unref(),
      setInterval(() => this.#checkpoint(), CHECKPOINT_MS).unref(),
    ];
  }

  /** Commits what was folded. @throws Error see ProjectionStore.commit */
  commit(): void {
    try {
      this.store.commit();
    } catch (error) {
      if (isDamage(error)) this.damaged(error as Error);
      throw error;
    }
    if (this.store.meta.commits - this.#checkpointed >= CHECKPOINT_COMMITS) this.#checkpoint();
  }

  assertUntouched(): void {
    if (!this.#seen || performance.now() - this.#checkedAt < CHECK_VALID_MS) return;
    const now = statSync(this.path, { throwIfNoEntry: false });
    if (!now) throw new Error(`${this.path} was removed`);
    const { ino, size, mtimeMs } = this.#seen;
    if (now.ino !== ino) throw new Error(`${this.path} was replaced`);
    if (now.size !== size || now.mtimeMs !== mtimeMs) throw new Error(`${this.path} was changed by another program`);
    this.#checkedAt = performance.now();
  }

  damaged(error: Error): void {
    if (this.#isClosed) return;
    this.#onDamage(error);
  }

  /** Stops looking after the file, of which another one takes the place. Readers may finish with what they have begun. */
  retire(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    void this.#checkpointer.terminate();
  }

  /** Ends all use of the file. Only one that was closed as whole needs no WAL to be opened again. */
  async close(how: 'whole' | 'as it is'): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#checkpointer.terminate();
    if (how === 'whole') closeFile(this.#db, this.store);
    else this.#db.close();
  }

  #check(): void {
    try {
      if (existsSync(nextPath(this.path))) this.#onNext();
      this.assertUntouched();
    } catch (error) {
      this.damaged(error as Error);
    }
  }

  #checkpoint(): void {
    const { commits } = this.store.meta;
    if (this.#checkpointing !== undefined || commits === this.#checkpointed || this.#isClosed) return;
    this.#check();
    this.#checkpointing = commits;
    this.#seen = undefined;
    this.#checkpointer.postMessage('checkpoint');
  }

  #checkpointDone({ isComplete }: CheckpointReply): void {
    if (isComplete) this.store.describe({ inFile: this.#checkpointing as number });
    this.#checkpointed = this.#checkpointing as number;
    this.#checkpointing = undefined;
    this.#seen = statSync(this.path, { throwIfNoEntry: false });
  }
}
