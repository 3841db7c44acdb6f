import type { DatabaseSyncInstance } from '@photostructure/sqlite';
import type { BaseLogger } from 'pino';
import { inTransaction, SidecarDb } from '../../sqlite/sidecar-db.js';
import { type Attempt, type Cursor, type DeliveryStore, MAX_KEPT_ATTEMPTS } from './delivery-store.js';

/** Longer than any lease or heartbeat: one that ends later was written by a clock that was ahead, and is ignored. */
const MAX_TTL_MS = 600_000;
/** 'KDel' */
const APPLICATION_ID = 0x4b44656c;

/** A SQLite file, see SidecarDb. After a crash of the machine, not of the process, endpoints receive events again. */
export function openSqliteDeliveryStore(file: string, logId: string, logger: BaseLogger): DeliveryStore {
  const sidecar = new SidecarDb(
    file,
    {
      applicationId: APPLICATION_ID,
      version: 1,
      what: 'cursors of webhooks',
      synchronous: 'NORMAL',
      schema: SCHEMA,
      prepare: (db) => prepare(db, logId),
    },
    logger,
  );
  return {
    heartbeat: (instance, ttlMs) =>
      sidecar.run(({ db, deleteDead, putInstance, instances }) =>
        inTransaction(db, () => {
          const now = Date.now();
          deleteDead.run(now);
          putInstance.run(instance, now + ttlMs);
          return (instances.all() as { instance: string }[]).map((row) => row.instance);
        }),
      ),
    acquireLeases: (instance, webhookIds, ttlMs) =>
      sidecar.run(({ db, acquire, held }) =>
        inTransaction(db, () => {
          const [ids, now] = [JSON.stringify(webhookIds), Date.now()];
          acquire.run(ids, instance, now + ttlMs, now);
          return new Set((held.all(instance, ids) as { webhook: string }[]).map(({ webhook }) => webhook));
        }),
      ),
    releaseLeases: (instance, webhookIds) =>
      sidecar.run(({ release }) => void release.run(instance, JSON.stringify(webhookIds))),
    cursor: (webhookId) =>
      sidecar.run(({ cursor }) => {
        const row = cursor.get(webhookId) as { cursor: string } | undefined;
        return row && (JSON.parse(row.cursor) as Cursor);
      }),
    save: (instance, webhookId, cursor, attempt) =>
      sidecar.run(({ db, isHeld, putCursor, addAttempt, trimAttempts }) =>
        inTransaction(db, () => {
          if (!isHeld.get(webhookId, instance, Date.now())) return false;
          putCursor.run(webhookId, JSON.stringify(cursor));
          if (attempt) {
            addAttempt.run(webhookId, JSON.stringify(attempt));
            trimAttempts.run(webhookId);
          }
          return true;
        }),
      ),
    attempts: (webhookId) =>
      sidecar.run(({ attempts }) =>
        (attempts.all(webhookId) as { attempt: string }[]).map(({ attempt }) => JSON.parse(attempt) as Attempt),
      ),
    deleteWebhook: (webhookId) =>
      sidecar.run(({ db, deletions }) =>
        inTransaction(db, () => {
          for (const statement of deletions) statement.run(webhookId);
        }),
      ),
    close: async () => sidecar.close(),
  };
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS instances (
    log TEXT, instance TEXT, until INTEGER, PRIMARY KEY (log, instance)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS leases (
    log TEXT, webhook TEXT, instance TEXT, until INTEGER, PRIMARY KEY (log, webhook)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS cursors (
    log TEXT, webhook TEXT, cursor TEXT, PRIMARY KEY (log, webhook)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS attempts (
    log TEXT, webhook TEXT, number INTEGER, attempt TEXT, PRIMARY KEY (log, webhook, number)
  ) STRICT, WITHOUT ROWID;`;

/** The log id is a UUID that Keyledger made, so it is safe in the text of a statement. */
function prepare(db: DatabaseSyncInstance, logId: string) {
  const log = `'${logId}'`;
  const ofWebhook = `WHERE log = ${log} AND webhook = ?`;
  const last = `SELECT max(number) FROM attempts ${ofWebhook}1`;
  return {
    db,
    deleteDead: db.prepare(`DELETE FROM instances WHERE log = ${log} AND (until <= ?1 OR until > ?1 + ${MAX_TTL_MS})`),
    putInstance: db.prepare(`INSERT OR REPLACE INTO instances VALUES (${log}, ?, ?)`),
    instances: db.prepare(`SELECT instance FROM instances WHERE log = ${log} ORDER BY instance`),
    acquire: db.prepare(`
      INSERT INTO leases SELECT ${log}, value, ?2, ?3 FROM json_each(?1) WHERE true
      ON CONFLICT DO UPDATE SET instance = excluded.instance, until = excluded.until
      WHERE until <= ?4 OR until > ?4 + ${MAX_TTL_MS} OR instance = excluded.instance`),
    held: db.prepare(`
      SELECT webhook FROM leases
      WHERE log = ${log} AND instance = ? AND webhook IN (SELECT value FROM json_each(?))`),
    release: db.prepare(`
      DELETE FROM leases
      WHERE log = ${log} AND instance = ? AND webhook IN (SELECT value FROM json_each(?))`),
    isHeld: db.prepare(`SELECT 1 FROM leases ${ofWebhook} AND instance = ? AND until > ?`),
    cursor: db.prepare(`SELECT cursor FROM cursors ${ofWebhook}`),
    putCursor: db.prepare(`INSERT OR REPLACE INTO cursors VALUES (${log}, ?, ?)`),
    addAttempt: db.prepare(`INSERT INTO attempts VALUES (${log}, ?1, coalesce((${last}), 0) + 1, ?2)`),
    trimAttempts: db.prepare(`DELETE FROM attempts ${ofWebhook}1 AND number <= (${last}) - ${MAX_KEPT_ATTEMPTS}`),
    attempts: db.prepare(`SELECT attempt FROM attempts ${ofWebhook} ORDER BY number DESC`),
    deletions: ['leases', 'cursors', 'attempts'].map((table) => db.prepare(`DELETE FROM ${table} ${ofWebhook}`)),
  };
}
