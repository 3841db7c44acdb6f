import { once } from 'node:events';
import { statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { DatabaseSyncInstance, StatementSyncInstance } from '@photostructure/sqlite';
import { KeyledgerError } from '../../domain/errors.js';
import type {
  AppendRequest,
  AppendResult,
  BulkAppendResult,
  EventBatch,
  EventStore,
  ExpectedRevision,
  NewEvent,
} from '../event-store.js';
import type { Position } from '../position.js';
import { appendInBatches, encodeAppend } from './bulk-append.js';
import { SqliteReads } from './reads.js';
import { type LogFile, openLogFile } from './schema.js';
import type { EncodedAppend, WriterReply } from './writer.js';

/** Maximum number of appends in a transaction, so that the first of a burst do not wait for all. */
const GROUP_SIZE = 1024;
/** Interval of checks for commits of other processes. */
const CHANGE_POLL_MS = 20;
/** Interval of checks that the file was not removed or replaced. */
const FILE_CHECK_MS = 1000;
/** An append that queued longer is not written: while the file is locked, all fail together. */
const QUEUE_TIMEOUT_MS = 3500;

type Pending = {
  append: EncodedAppend;
  since: number;
  resolve: (result: AppendResult) => void;
  reject: (error: Error) => void;
};

/**
 * Opens a SQLite file as a log; other processes may have it open too.
 * @param onFatal called once if the content of the disk is unknown or the file was removed: the process must end
 * @throws Error see openLogFile
 */
export async function openSqliteLog(path: string, onFatal: (error: Error) => void): Promise<EventStore> {
  return new SqliteLog(await openLogFile(path), onFatal);
}

class SqliteLog extends SqliteReads implements EventStore {
  readonly #db: DatabaseSyncInstance;
  readonly #writer: Worker;
  readonly #writerEnded: Promise<unknown>;
  readonly #onFatal: (error: Error) => void;
  readonly #dataVersion: StatementSyncInstance;
  readonly #waiters = new Set<() => void>();
  #queue: Pending[] = [];
  #inFlight: Pending[] = [];
  #poll: NodeJS.Timeout | undefined;
  readonly #watch: NodeJS.Timeout;
  #seenVersion: number | undefined;
  #changes = 0;
  #closed: Promise<void> | undefined;
  #failed: Error | undefined;

  constructor({ file, db, logId }: LogFile, onFatal: (error: Error) => void) {
    super(db, logId);
    this.#db = db;
    this.#onFatal = onFatal;
    this.#dataVersion = db.prepare('PRAGMA data_version');
    const { ino } = statSync(file);
    this.#watch = setInterval(() => this.#checkFileIdentity(file, ino), FILE_CHECK_MS).unref();
    this.#writer = new Worker(new URL('./writer.js', import.meta.url), { workerData: file });
    this.#writerEnded = new Promise((resolve) => this.#writer.once('exit', resolve));
    this.#writer.on('message', (reply: WriterReply) => this.#settle(reply));
    this.#writer.on('error', (error) => this.#settle({ failure: error.message, outcome: 'unknown' }));
  }

  async append(stream: string, events: readonly NewEvent[], expected: ExpectedRevision): Promise<AppendResult> {
    const [result] = this.#enqueue([encodeAppend({ stream, events, expectedRevision: expected })]);
    return result as Promise<AppendResult>;
  }

  bulkAppend(appends: AsyncIterable<AppendRequest>): Promise<BulkAppendResult> {
    return appendInBatches(appends, GROUP_SIZE, (group) => Promise.all(this.#enqueue(group)));
  }

  #enqueue(appends: readonly EncodedAppend[]): Promise<AppendResult>[] {
    const results = appends.map(
      (append) =>
        new Promise<AppendResult>((resolve, reject) => {
          if (!this.#closed && !this.#failed) this.#queue.push({ append, since: performance.now(), resolve, reject });
          else {
            const cause = this.#failed ?? new Error('The log is closed');
            reject(new KeyledgerError('UNAVAILABLE', { cause }));
          }
        }),
    );
    this.#sendGroup();
    return results;
  }

  async *subscribe(after: Position | undefined, signal: AbortSignal): AsyncIterable<EventBatch> {
    let reportedCaughtUp = false;
    for (let last = this.placeAfter(after); !signal.aborted && !this.#closed; ) {
      const seen = this.#changes;
      const { place, ...batch } = this.batchAfter(last);
      const { caughtUp } = batch;
      const isNew = place !== last;
      last = place;
      if (isNew || !reportedCaughtUp) yield { ...batch, position: this.position(place) };
      reportedCaughtUp = caughtUp;
      await (caughtUp ? this.#changeSince(seen, signal) : setImmediate());
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  /** Waits until the log may have grown since the count of changes was `seen`, or the signal is aborted. */
  #changeSince(seen: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (this.#changes !== seen || signal.aborted || this.#closed) return resolve();
      const wake = () => {
        signal.removeEventListener('abort', wake);
        this.#waiters.delete(wake);
        resolve();
      };
      signal.addEventListener('abort', wake);
      this.#waiters.add(wake);
      this.#poll ??= setInterval(() => this.#checkForCommits(), CHANGE_POLL_MS);
    });
  }

  /** data_version changes with each commit of another connection, the writer's and other processes'. */
  #checkForCommits(): void {
    const version = this.#readVersion();
    if (version === undefined || version !== this.#seenVersion) this.#wakeSubscribers();
    this.#seenVersion = version;
  }

  /** Undefined if the file cannot be read: each subscriber then fails by itself. */
  #readVersion(): number | undefined {
    try {
      return (this.#dataVersion.get() as { data_version: number }).data_version;
    } catch {
      return undefined;
    }
  }

  /** Fails the log if the file was removed or replaced while open: later writes are lost. */
  #checkFileIdentity(file: string, inode: number): void {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found?.ino === inode && found.size > 0) return;
    this.#fail(new Error(`${file} was removed, emptied or replaced while it was open`));
  }

  #wakeSubscribers(): void {
    this.#changes++;
    for (const wake of [...this.#waiters]) wake();
  }

  /** Group commit: appends that arrive while a group is being written form the next group. */
  #sendGroup(): void {
    if (this.#inFlight.length > 0 || this.#queue.length === 0) return;
    const oldest = performance.now() - QUEUE_TIMEOUT_MS;
    const first = this.#queue.findIndex(({ since }) => since >= oldest);
    for (const { reject } of this.#queue.splice(0, first < 0 ? Number.POSITIVE_INFINITY : first)) {
      reject(new KeyledgerError('UNAVAILABLE', { cause: new Error('The log did not write it in time') }));
    }
    this.#inFlight = this.#queue.splice(0, GROUP_SIZE);
    if (this.#inFlight.length === 0) return;
    this.#writer.postMessage(this.#inFlight.map(({ append }) => append));
  }

  #settle(reply: WriterReply): void {
    const group = this.#inFlight;
    this.#inFlight = [];
    if (this.#failed) {
      for (const { reject } of group) reject(new KeyledgerError('OUTCOME_UNKNOWN', { cause: this.#failed }));
    } else if ('outcomes' in reply) {
      group.forEach(({ resolve }, i) => {
        const outcome = reply.outcomes[i] as (typeof reply.outcomes)[number];
        resolve(
          'actualRevision' in outcome
            ? { appended: false, actualRevision: outcome.actualRevision }
            : { appended: true, revision: outcome.revision, position: this.position(outcome.place) },
        );
      });
      this.#wakeSubscribers();
    } else {
      const cause = new Error(`The log could not be written: ${reply.failure}`);
      const unknown = reply.outcome === 'unknown';
      for (const { reject } of group) {
        reject(new KeyledgerError(unknown ? 'OUTCOME_UNKNOWN' : 'UNAVAILABLE', { cause }));
      }
      if (unknown) this.#fail(cause);
    }
    this.#sendGroup();
  }

  /** After a failed fsync it is unknown what the disk holds, and the kernel reports the failure only once. */
  #fail(error: Error): void {
    if (this.#failed) return;
    this.#failed = error;
    for (const { reject } of this.#queue.splice(0)) reject(new KeyledgerError('UNAVAILABLE', { cause: error }));
    this.#onFatal(error);
  }

  async #finish(): Promise<void> {
    // A writer that dies settles the appends in flight, like one that answers.
    while (this.#inFlight.length > 0) await once(this.#writer, 'message').catch(() => undefined);
    // Not terminate(): a thread that is stopped inside native code, as when it opens the file, aborts the process.
    this.#writer.postMessage('close');
    await this.#writerEnded;
    clearInterval(this.#poll);
    clearInterval(this.#watch);
    this.#wakeSubscribers();
    this.#db.close();
  }
}
