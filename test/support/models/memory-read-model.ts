import type { ListItem } from '../../../src/projections/list-item.js';
import type { Checkpoint, ReadModel } from '../../../src/projections/read-model.js';

type Repository = {
  readonly items: Map<string, ListItem>;
  /** Newest first; made when it is asked for. */
  newestFirst: readonly ListItem[] | undefined;
  checkpoint: Checkpoint;
};

/** A read model in memory, which a test can take away, hold up and empty. */
export function memoryReadModel(): ReadModel {
  const repositories = new Map<string, Repository>();

  function put(item: ListItem, checkpoint: Checkpoint): void {
    let repository = repositories.get(item.repoId);
    if (!repository) {
      repository = { items: new Map(), newestFirst: undefined, checkpoint };
      repositories.set(item.repoId, repository);
    }
    if (checkpoint.position > repository.checkpoint.position) repository.checkpoint = checkpoint;
    const known = repository.items.get(item.apiKeyId);
    if (known && known.revision >= item.revision) return;
    repository.items.set(item.apiKeyId, item);
    repository.newestFirst = undefined;
  }

  return {
    restore: async ({ checkpoint, all }, _holds, signal) => {
      signal?.throwIfAborted();
      repositories.clear();
      if (!checkpoint) return;
      for await (const items of all(() => true)) for (const item of items) put(item, checkpoint);
    },
    apply: async (items, checkpoint, signal) => {
      signal?.throwIfAborted();
      for (const item of items) put(item, checkpoint);
    },
    list: async (repoId, { includeDeleted, before, size }) => {
      const repository = repositories.get(repoId);
      if (!repository) return [];
      repository.newestFirst ??= [...repository.items.values()].sort(byCreation);
      const all = repository.newestFirst;
      const page: ListItem[] = [];
      for (let i = before === undefined ? 0 : firstBefore(all, before); i < all.length; i++) {
        const item = all[i];
        if (!item || page.length === size) break;
        if (includeDeleted || item.status !== 'deleted') page.push(item);
      }
      return page;
    },
    get: async (repoId, apiKeyId) => repositories.get(repoId)?.items.get(apiKeyId),
    checkpoint: async (repoId) => repositories.get(repoId)?.checkpoint,
    close: async () => {},
  };
}

const byCreation = (a: ListItem, b: ListItem): number => (a.createdPosition < b.createdPosition ? 1 : -1);

/** Index of the first item that was created before a position, in a list that is newest first. */
function firstBefore(items: readonly ListItem[], position: string): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const item = items[middle];
    if (item && item.createdPosition >= position) low = middle + 1;
    else high = middle;
  }
  return low;
}
