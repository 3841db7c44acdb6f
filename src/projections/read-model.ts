import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ListItem } from './list-item.js';

/** The last event that a read model holds. */
export type Checkpoint = { readonly position: Position; readonly eventId: string };

/** Does the log hold the event of a checkpoint? Another log does not, nor one that was restored from an older copy. */
export const logContains = async (log: EventStore, { position, eventId }: Checkpoint): Promise<boolean> =>
  position.startsWith(`${log.logId}:`) && (await log.eventAt(position))?.id === eventId;

/** As `logContains`; a log contains the checkpoint of a projection that holds nothing. */
export const logContinues = async (log: EventStore, checkpoint: Checkpoint | undefined): Promise<boolean> =>
  checkpoint === undefined || logContains(log, checkpoint);

/** A read of the keys that were created before a position (without one, from the newest on). */
export type ListRequest = {
  readonly includeDeleted: boolean;
  readonly before: Position | undefined;
  /** 1 to 1000. */
  readonly size: number;
};

/** Serves lists: the projections store of the process, or a read model in Redis. */
export interface Lists {
  /**
   * The next keys of a repository, newest first by log position: as many as requested, or all that are left.
   * @throws KeyledgerError PROJECTIONS_DAMAGED, STARTING from the store; ReadModelLost from Redis; so does `get`
   */
  list(repoId: string, request: ListRequest): Promise<ListItem[]>;

  /** One key, also after its deletion. */
  get(repoId: string, apiKeyId: string): Promise<ListItem | undefined>;
}

/** The keys of a fold at one position, which a read model is filled from. They come in arrays of some hundred. */
export type KeySource = {
  /** The last event of the fold; undefined if the log is empty. */
  readonly checkpoint: Checkpoint | undefined;
  /** Every key of the repositories that are included. */
  all(includes: (repoId: string) => boolean): AsyncIterable<ListItem[]>;
  /** Every key of them with an event after a position, perhaps more than once. */
  changedAfter(position: Position, includes: (repoId: string) => boolean): AsyncIterable<ListItem[]>;
  get(apiKeyId: string): ListItem | undefined;
};

/**
 * Port to a read model that instances share. `test/support/contracts/read-model.ts` is its definition.
 *
 * A read model outlives the process, and may lose everything or go back in time. So the writer first writes what it
 * lacks (`restore`), then each change (`apply`); a read model that finds that it has lost data throws ReadModelLost
 * instead of answering.
 */
export interface ReadModel extends Lists {
  /**
   * Makes the read model hold the keys of a fold. It keeps what it has if the log holds the event of its own checkpoint;
   * else it starts again from nothing.
   * @param holds does the log hold the event of a checkpoint?
   * @param signal no write begins after it is aborted: rejects with its reason
   */
  restore(source: KeySource, holds: (checkpoint: Checkpoint) => Promise<boolean>, signal?: AbortSignal): Promise<void>;

  /**
   * Stores each item unless it holds a later revision, and with them, atomically within a repository, the checkpoint
   * unless it holds a later one. So batches may arrive twice, late or out of order.
   * @param signal as for `restore`
   * @throws ReadModelLost
   */
  apply(items: readonly ListItem[], checkpoint: Checkpoint, signal?: AbortSignal): Promise<void>;

  /** Checkpoint of the partition that holds a repository, for tests; undefined if nothing was applied to it. */
  checkpoint(repoId: string): Promise<Checkpoint | undefined>;

  close(): Promise<void>;
}

/** The read model no longer holds what was applied to it: it was emptied, or went back in time. */
export class ReadModelLost extends Error {
  constructor() {
    super('The read model has lost data');
    this.name = 'ReadModelLost';
  }
}
