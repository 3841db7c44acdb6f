import type { EventStore } from './event-store.js';
import { isEventStoreDbUrl } from './eventstoredb/connection.js';
import { type EventStoreDbOptions, openEventStoreDbLog } from './eventstoredb/log.js';
import { openSqliteLog } from './sqlite/log.js';
import { isReadOnlyCopy, openReadOnlyCopy } from './sqlite/read-only.js';

const SQLITE = 'sqlite:';

export const isSqliteUrl = (url: string): boolean => url.startsWith(SQLITE) && url.length > SQLITE.length;

export const isEventStoreUrl = (url: string): boolean => isSqliteUrl(url) || isEventStoreDbUrl(url);

export const sqliteFile = (url: string): string => url.slice(SQLITE.length);

export type OpenOptions = EventStoreDbOptions & {
  /** 'to read' also opens a read-only copy of a log. */
  readonly purpose?: 'to read' | 'to write';
};

/**
 * Opens the log that a URL names: `sqlite:<file>`, `esdb://…` or `esdb+discover://…`.
 * @throws Error it cannot be opened
 */
export async function openEventStore(url: string, options: OpenOptions): Promise<EventStore> {
  if (!isSqliteUrl(url)) return openEventStoreDbLog(url, options);
  const file = sqliteFile(url);
  return options.purpose === 'to read' && isReadOnlyCopy(file)
    ? openReadOnlyCopy(file)
    : openSqliteLog(file, options.onFatal);
}
