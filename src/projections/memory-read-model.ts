import type { ListItem } from './list.js';
import type { Checkpoint, ReadModel } from './read-model.js';

type Repository = {
  readonly all: Map<string, ListItem>;
  readonly listed: Map<string, ListItem>;
  checkpoint: Checkpoint;
};

/** A read model that lives as long as the process: restored from the log at each start. */
export function memoryReadModel(): ReadModel {
  const repositories = new Map<string, Repository>();

  function put(item: ListItem, checkpoint: Checkpoint): void {
    let repository = repositories.get(item.repoId);
    if (!repository) {
      repository = { all: new Map(), listed: new Map(), checkpoint };
      repositories.set(item.repoId, repository);
    }
    if (checkpoint.position > repository.checkpoint.position) repository.checkpoint = checkpoint;
    const known = repository.all.get(item.apiKeyId);
    if (known && known.revision >= item.revision) return;
    repository.all.set(item.apiKeyId, item);
    if (item.status === 'deleted') repository.listed.delete(item.apiKeyId);
    else repository.listed.set(item.apiKeyId, item);
  }

  return {
    restore: async (items, checkpoint) => {
      repositories.clear();
      for (const item of items) if (checkpoint) put(item, checkpoint);
    },
    apply: async (items, checkpoint) => {
      for (const item of items) put(item, checkpoint);
    },
    list: async (repoId) =>
      [...(repositories.get(repoId)?.listed.values() ?? [])].sort((a, b) =>
        a.createdPosition < b.createdPosition ? 1 : -1,
      ),
    get: async (repoId, apiKeyId) => repositories.get(repoId)?.all.get(apiKeyId),
    checkpoint: async (repoId) => repositories.get(repoId)?.checkpoint,
    close: async () => {},
  };
}
