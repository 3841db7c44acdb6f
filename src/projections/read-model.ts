import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ListItem } from './list-item.js';

/** How far a read model is: the last event that it holds. */
export type Checkpoint = { readonly position: Position; readonly eventId: string };

/** Does the log hold the event that a checkpoint names? Not if it is another log, or was restored from an older copy. */
export const heldBy =
  (log: EventStore) =>
  async ({ position, eventId }: Checkpoint): Promise<boolean> =>
    position.startsWith(`${log.logId}:`) && (await log.eventAt(position))?.id === eventId;

/** Those of a list that were created before a position (without one, from the newest on). */
export type ListRequest = {
  readonly includeDeleted: boolean;
  readonly before: Position | undefined;
  /** 1 to 1000. */
  readonly size: number;
};

/**
 * The port to what lists are served from. `test/support/contracts/read-model.ts` is its definition.
 *
 * A read model may outlive the process, be shared, lose everything, or go back in time. So it is
 * first brought to hold all that there is (`restore`), then kept there (`apply`); whenever it finds
 * that it no longer holds what it did, it says so instead of answering.
 */
export interface ReadModel {
  /**
   * Brings it to hold these items, which are everything up to the checkpoint. What it holds already
   * stays, if `holds` says that the log has the event that it is at; else it starts again from nothing.
   * @param checkpoint undefined if the log is empty
   */
  restore(
    items: readonly ListItem[],
    checkpoint: Checkpoint | undefined,
    holds: (checkpoint: Checkpoint) => Promise<boolean>,
  ): Promise<void>;

  /**
   * Takes over each item unless a later revision of it is there, and with them, atomically within a
   * repository, the checkpoint unless a later one is there. So batches may come twice, late or out of order.
   * @throws ReadModelLost
   */
  apply(items: readonly ListItem[], checkpoint: Checkpoint): Promise<void>;

  /**
   * The next keys of a repository, newest first by log position: as many as asked for, or all that are left.
   * @throws ReadModelLost
   */
  list(repoId: string, page: ListRequest): Promise<ListItem[]>;

  /**
   * One key, a deleted one too.
   * @throws ReadModelLost
   */
  get(repoId: string, apiKeyId: string): Promise<ListItem | undefined>;

  /** How far a repository is; undefined if nothing of it was ever applied. */
  checkpoint(repoId: string): Promise<Checkpoint | undefined>;

  close(): Promise<void>;
}

/** The read model no longer holds what was applied to it: it was emptied, or went back in time. */
export class ReadModelLost extends Error {
  constructor() {
    super('The read model has lost what it held');
    this.name = 'ReadModelLost';
  }
}
