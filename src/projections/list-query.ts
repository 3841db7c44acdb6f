import { type AiType, type Status, statusAt } from '../domain/ai-api-key.js';
import type { EpochMs } from '../domain/time.js';
import type { Position } from '../event-store/position.js';
import type { ListItem } from './list-item.js';

/** A list of the API keys of a repository. */
export type ListQuery = {
  readonly includeDeleted: boolean;
  readonly status?: Status | undefined;
  readonly aiType?: AiType | undefined;
  /** The `next` of the previous page. */
  readonly after?: Position | undefined;
};

/** A page of a list, and where the next page starts; null on the last page. */
export type ListPage<Item = ListItem> = { readonly items: readonly Item[]; readonly next: Position | null };

/** Does an item match the filters of a query at a time? */
export function matchesFilter(item: ListItem, { includeDeleted, status, aiType }: ListQuery, now: EpochMs): boolean {
  if (!includeDeleted && item.status === 'deleted') return false;
  if (status !== undefined && statusAt(item, now) !== status) return false;
  return aiType === undefined || item.aiType === aiType;
}
