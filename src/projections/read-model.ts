import type { Position } from '../event-store/position.js';
import type { ListItem } from './list.js';

/** How far a read model is: the last event that it holds. */
export type Checkpoint = { readonly position: Position; readonly eventId: string };

/** The port to what lists are served from. `test/read-model-contract.ts` is its definition. */
export interface ReadModel {
  /** Undefined if nothing was ever applied. */
  checkpoint(): Promise<Checkpoint | undefined>;

  /**
   * Takes over each item unless a later revision of it is there, and with them, atomically, the
   * checkpoint unless a later one is there. So batches may come twice, late or out of order.
   */
  apply(items: readonly ListItem[], checkpoint: Checkpoint): Promise<void>;

  /** The keys of a repository that are not deleted, newest first by log position. */
  list(repoId: string): Promise<ListItem[]>;

  /** One key, a deleted one too. */
  get(repoId: string, apiKeyId: string): Promise<ListItem | undefined>;

  /** Forgets everything, the checkpoint too. */
  clear(): Promise<void>;

  close(): Promise<void>;
}
