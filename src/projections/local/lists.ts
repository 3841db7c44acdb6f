import { paced } from '../../paced.js';
import { type ListItem, toListItem } from '../list-item.js';
import type { Lists } from '../read-model.js';
import type { ProjectionStore } from './store.js';

/**
 * Serves lists from the projections store of the process.
 * @param store throws KeyledgerError STARTING or PROJECTIONS_DAMAGED while there is none
 */
export const localLists = (store: () => ProjectionStore): Lists => ({
  list: async (repoId, { includeDeleted, before, size }) => {
    const giveWay = paced();
    const items: ListItem[] = [];
    for (const entry of store().keys.ofRepository(repoId, before)) {
      await giveWay();
      if (!includeDeleted && entry.key.status === 'deleted') continue;
      if (items.push(toListItem(entry)) === size) break;
    }
    return items;
  },
  get: async (repoId, apiKeyId) => {
    const entry = store().keys.get(apiKeyId);
    return entry?.key.repoId === repoId ? toListItem(entry) : undefined;
  },
});
