import type { BaseLogger } from 'pino';
import type { EpochMs } from '../domain/time.js';
import { SidecarDb } from '../sqlite/sidecar-db.js';
import type { LastUse, LastUsedStore } from './last-used-store.js';

/** 'KUse' */
const APPLICATION_ID = 0x4b557365;

/** Last uses in a SQLite file, see SidecarDb; writes do not wait for the disk. */
export function openSqliteLastUsedStore(file: string, logger: BaseLogger): LastUsedStore {
  const sidecar = new SidecarDb(
    file,
    {
      applicationId: APPLICATION_ID,
      version: 1,
      what: 'last uses',
      synchronous: 'OFF',
      schema: `
        CREATE TABLE IF NOT EXISTS last_used (
          api_key_id TEXT PRIMARY KEY,
          at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;`,
      prepare: (db) => ({
        upsert: db.prepare(`
          INSERT INTO last_used SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true
          ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > at`),
        select: db.prepare('SELECT api_key_id, at FROM last_used WHERE api_key_id IN (SELECT value FROM json_each(?))'),
      }),
    },
    logger,
  );
  return {
    write: (batch: readonly LastUse[]) => sidecar.run(({ upsert }) => void upsert.run(JSON.stringify(batch))),
    read: async (apiKeyIds) => {
      const rows = await sidecar.run(({ select }) => select.all(JSON.stringify(apiKeyIds)) as Row[]);
      return new Map(rows.map(({ api_key_id, at }) => [api_key_id, at]));
    },
    close: async () => sidecar.close(),
  };
}

type Row = { readonly api_key_id: string; readonly at: EpochMs };
