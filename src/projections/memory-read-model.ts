import type { ListItem } from './list.js';
import type { Checkpoint, ReadModel } from './read-model.js';

type Repository = { readonly all: Map<string, ListItem>; readonly listed: Map<string, ListItem> };

/** A read model that lives as long as the process: rebuilt from the log at each start. */
export function memoryReadModel(): ReadModel {
  const repositories = new Map<string, Repository>();
  let saved: Checkpoint | undefined;

  function put(item: ListItem): void {
    let repository = repositories.get(item.repoId);
    if (!repository) {
      repository = { all: new Map(), listed: new Map() };
      repositories.set(item.repoId, repository);
    }
    const known = repository.all.get(item.apiKeyId);
    if (known && known.revision >= item.revision) return;
    repository.all.set(item.apiKeyId, item);
    if (item.status === 'deleted') repository.listed.delete(item.apiKeyId);
    else repository.listed.set(item.apiKeyId, item);
  }

  return {
    checkpoint: async () => saved,
    apply: async (items, checkpoint) => {
      for (const item of items) put(item);
      if (!saved || checkpoint.position > saved.position) saved = checkpoint;
    },
    list: async (repoId) =>
      [...(repositories.get(repoId)?.listed.values() ?? [])].sort((a, b) =>
        a.createdPosition < b.createdPosition ? 1 : -1,
      ),
    get: async (repoId, apiKeyId) => repositories.get(repoId)?.all.get(apiKeyId),
    clear: async () => {
      repositories.clear();
      saved = undefined;
    },
    close: async () => {},
  };
}
