import type { EventStore } from './event-store.js';
import { openSqliteLog } from './sqlite-log.js';

/**
 * The log that a URL names: `sqlite:<file>`.
 * @param onFatal called once if the log has failed for good: the process must end
 * @throws Error it cannot be opened
 */
export function openEventStore(url: string, onFatal: (error: Error) => void): Promise<EventStore> {
  return openSqliteLog(url.slice('sqlite:'.length), onFatal);
}
