import { existsSync, renameSync } from 'node:fs';
import type { BaseLogger } from 'pino';
import type { EventStore } from '../../event-store/event-store.js';
import type { Position } from '../../event-store/position.js';
import type { Checkpoint } from '../read-model.js';
import { logContains } from '../read-model.js';
import { backOff } from '../retry.js';
import { foldRest } from './build.js';
import { type BuildProgress, createFile, finishFile, removeFile, reopenDraft, UnusableProjections } from './file.js';
import { LiveFile, type LiveFileEvents, nextPath, takenPath } from './live-file.js';
import { closeDb } from './projections-db.js';
import { claimSlot, type Slot } from './slot.js';

/** Builds a whole file from the log; `build.ts` does so in another process. */
export type BuildFile = (
  path: string,
  onProgress: (progress: BuildProgress) => void,
  signal: AbortSignal,
) => Promise<void>;

/** A log with fewer events is folded into an empty file as fast as a process would start that builds one. */
const SHORT_LOG = 5000;
/** A log line with the progress of a build this often. */
const REPORT_MS = 5000;

/** The projections file of this process in a folder: opens it, puts it aside if it cannot be used, and builds it. */
export class LocalProjections {
  readonly #folder: string;
  readonly #log: EventStore;
  readonly #logger: BaseLogger;
  readonly #buildFile: BuildFile | undefined;
  #slot: Slot | undefined;
  #building: BuildProgress | undefined;
  #problem: string | undefined;
  #condemned: string | undefined;

  /** @param buildFile undefined: this process folds even a long log */
  constructor(options: {
    readonly folder: string;
    readonly log: EventStore;
    readonly logger: BaseLogger;
    readonly buildFile?: BuildFile | undefined;
  }) {
    this.#folder = options.folder;
    this.#log = options.log;
    this.#logger = options.logger;
    this.#buildFile = options.buildFile;
  }

  /** Progress of the build under way; undefined if there is none. */
  get building(): BuildProgress | undefined {
    return this.#building;
  }

  /** Why the projections can neither be opened nor built; undefined: nothing keeps them from it. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * Opens the file, and builds it first if there is none that can be used. Tries for ever.
   * @returns undefined: aborted
   */
  async open(events: LiveFileEvents, signal: AbortSignal): Promise<LiveFile | undefined> {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        const slot = this.#claim();
        if (this.#condemned !== undefined) this.#putAside(slot.path, this.#condemned);
        this.#condemned = undefined;
        const file = await this.#tryOpen(slot.path, events);
        if (file) {
          this.#problem = undefined;
          return file;
        }
        await this.#build(slot.path, signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        this.#problem = `The projections cannot be built: ${(error as Error).message}`;
        await backOff('The projections cannot be opened or built', error, failures, this.#logger, signal);
      }
    }
    return undefined;
  }

  /**
   * Takes over the file that `projection rebuild` has left: folds into it what came meanwhile, while the old one serves,
   * and puts it in the place of the old one.
   * @returns the old one if the new one cannot be used; undefined: the old one is gone, and the new one does not open
   */
  async takeNext(old: LiveFile, events: LiveFileEvents): Promise<LiveFile | undefined> {
    const { path } = old;
    const taken = takenPath(path);
    try {
      await this.#prepareNext(path, taken, old.store.position);
    } catch (error) {
      this.#logger.warn({ err: error }, `The rebuilt projections cannot take the place of ${path}, and are removed`);
      tryRemove(nextPath(path));
      tryRemove(taken);
      return old;
    }
    try {
      old.retire();
      removeFile(path);
      renameSync(taken, path);
      this.#logger.info(`${path} was replaced by the one that keyledger projection rebuild has built`);
      return new LiveFile(path, this.#log.logId, events);
    } catch (error) {
      this.#logger.warn({ err: error }, 'The new projections cannot be opened');
      return undefined;
    }
  }

  /** @throws UnusableProjections, Error of SQLite or the file system */
  async #prepareNext(path: string, taken: string, reached: Position | undefined): Promise<void> {
    renameSync(nextPath(path), taken);
    const { db, store } = reopenDraft(taken, this.#log.logId);
    try {
      await foldRest(this.#log, store);
      if ((store.position ?? '') < (reached ?? '')) throw new UnusableProjections('it is behind the log');
    } catch (error) {
      closeDb(db);
      throw error;
    }
    await finishFile(db, taken, taken);
  }

  /** The file cannot be used any more: `open` builds another. */
  condemn(reason: string): void {
    this.#condemned = reason;
  }

  /** Keeps a file that cannot be used until the next one is whole. */
  #putAside(path: string, reason: string): void {
    if (!existsSync(path)) {
      this.#logger.warn(`${path}: ${reason}. Building it anew from the log`);
      return;
    }
    const aside = asidePath(path);
    this.#logger.warn(`${path}: ${reason}. It is now ${aside}, until one built anew from the log is whole`);
    removeFile(aside);
    renameSync(path, aside);
    removeFile(path);
  }

  /** Lets another process use the file. */
  release(): void {
    this.#slot?.release();
    this.#slot = undefined;
  }

  #claim(): Slot {
    if (this.#slot) return this.#slot;
    const slot = claimSlot(this.#folder);
    this.#slot = slot;
    // Left by a process that was killed.
    for (const unfinished of [draftPath(slot.path), takenPath(slot.path)]) removeFile(unfinished);
    if (slot.number > 1) {
      this.#logger.info(`Another process uses the first projections in ${this.#folder}; this one uses ${slot.path}`);
    }
    return slot;
  }

  /** @returns undefined: there is no file that can be used */
  async #tryOpen(path: string, events: LiveFileEvents): Promise<LiveFile | undefined> {
    if (!existsSync(path)) return undefined;
    let file: LiveFile | undefined;
    try {
      file = new LiveFile(path, this.#log.logId, events);
      const { checkpoint } = file.store;
      if (checkpoint === undefined || (await logContains(this.#log, checkpoint as Checkpoint))) return file;
      throw new UnusableProjections('the log does not hold its last event, so it was restored from an older copy');
    } catch (error) {
      await file?.close('as it is');
      if (!(error instanceof UnusableProjections)) throw error;
      this.#putAside(path, error.message);
      return undefined;
    }
  }

  async #build(path: string, signal: AbortSignal): Promise<void> {
    const draft = draftPath(path);
    try {
      // SQLite would apply the WAL of a file that is gone to the new one.
      removeFile(path);
      if (!this.#buildFile || (await this.#isShort())) {
        const { db } = createFile(draft, this.#log.logId);
        await finishFile(db, draft, path);
      } else {
        await this.#buildLong(this.#buildFile, draft, signal);
        renameSync(draft, path);
      }
      removeFile(asidePath(path));
    } catch (error) {
      removeFile(draft);
      // It may take the room that the new one needs.
      removeFile(asidePath(path));
      throw error;
    } finally {
      this.#building = undefined;
    }
  }

  async #buildLong(buildFile: BuildFile, draft: string, signal: AbortSignal): Promise<void> {
    let reportedAt = performance.now();
    this.#logger.info('Building the projections from the log');
    const startedAt = performance.now();
    await buildFile(
      draft,
      (progress) => {
        this.#building = progress;
        if (performance.now() - reportedAt < REPORT_MS) return;
        reportedAt = performance.now();
        this.#logger.info({ building: progress }, 'Building the projections from the log');
      },
      signal,
    );
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    this.#logger.info({ events: this.#building?.events, seconds }, 'The projections are built');
  }

  async #isShort(): Promise<boolean> {
    let events = 0;
    for await (const _ of this.#log.readAll()) if (++events > SHORT_LOG) return false;
    return true;
  }
}

const draftPath = (path: string): string => `${path}.new`;
const asidePath = (path: string): string => `${path}.old`;

function tryRemove(path: string): void {
  try {
    removeFile(path);
  } catch {
    // A disk that cannot be written keeps it; the next start of the process removes it.
  }
}
