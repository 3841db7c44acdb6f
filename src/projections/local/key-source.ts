import { DatabaseSync } from '@photostructure/sqlite';
import type { Position } from '../../event-store/position.js';
import { apiKeyIdOf } from '../../event-store/streams.js';
import { chunksOf } from '../../grouping.js';
import { paced } from '../../paced.js';
import { type ListItem, toListItem } from '../list-item.js';
import type { KeySource } from '../read-model.js';
import { closeDb } from './projections-db.js';
import { ProjectionStore } from './store.js';

const CHUNK_SIZE = 200;

/**
 * Calls back with the keys of a projections file as they are now. Meanwhile others may write to the file: the callback
 * reads from a transaction, which keeps the WAL from being reused until it ends.
 */
export async function withKeySource<T>(path: string, use: (source: KeySource) => Promise<T>): Promise<T> {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    db.exec('PRAGMA cache_size = -8192; BEGIN;');
    return await use(keySource(new ProjectionStore(db)));
  } finally {
    closeDb(db);
  }
}

/** The keys of projections that nobody changes meanwhile. */
export function keySource(store: ProjectionStore): KeySource {
  const get = (apiKeyId: string): ListItem | undefined => {
    const entry = store.keys.get(apiKeyId);
    return entry && toListItem(entry);
  };
  return {
    checkpoint: store.checkpoint,
    get,
    async *all(includes) {
      const giveWay = paced();
      for (const { repoId } of store.repositories.all()) {
        await giveWay();
        if (!includes(repoId)) continue;
        for (const entries of chunksOf(store.keys.ofRepository(repoId), CHUNK_SIZE)) {
          yield entries.map(toListItem);
          await giveWay();
        }
      }
    },
    async *changedAfter(position: Position, includes) {
      const giveWay = paced();
      for (const streams of chunksOf(store.events.streamsAfter(position), CHUNK_SIZE)) {
        const ids = new Set(streams.flatMap((stream) => apiKeyIdOf(stream) ?? []));
        const items = [...ids].flatMap((id) => get(id) ?? []);
        yield items.filter(({ repoId }) => includes(repoId));
        await giveWay();
      }
    },
  };
}
