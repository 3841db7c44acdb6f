import type { EventStore } from './event-store.js';
import { isEventStoreDbUrl } from './eventstoredb-connection.js';
import { openEventStoreDbLog } from './eventstoredb-log.js';
import { openSqliteLog } from './sqlite-log.js';
import { isReadOnlyCopy, openReadOnlyCopy } from './sqlite-read-only.js';

const SQLITE = 'sqlite:';

export const isSqliteUrl = (url: string): boolean => url.startsWith(SQLITE) && url.length > SQLITE.length;

export const isEventStoreUrl = (url: string): boolean => isSqliteUrl(url) || isEventStoreDbUrl(url);

export const sqliteFile = (url: string): string => url.slice(SQLITE.length);

/**
 * The log that a URL names: `sqlite:<file>`, `esdb://…` or `esdb+discover://…`.
 * @param onFatal called once if the log has failed for good: the process must end
 * @param warn told what an operator should know about the log
 * @param purpose 'to read': a read-only copy of a log is taken, too
 * @throws Error it cannot be opened
 */
export async function openEventStore(
  url: string,
  onFatal: (error: Error) => void,
  warn: (message: string) => void,
  purpose: 'to read' | 'to write' = 'to write',
): Promise<EventStore> {
  if (!isSqliteUrl(url)) return openEventStoreDbLog(url, onFatal, warn);
  const file = sqliteFile(url);
  return purpose === 'to read' && isReadOnlyCopy(file)
    ? openReadOnlyCopy(file)
    : openSqliteLog(file, onFatal);
}
