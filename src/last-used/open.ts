import type { BaseLogger } from 'pino';
import type { LastUsedStore } from './last-used-store.js';
import { openRedisLastUsedStore } from './redis-last-used.js';
import { openSqliteLastUsedStore } from './sqlite-last-used.js';

/** Last uses are stored beside the read model: in a SQLite file if that is `memory:`, else in the same Redis. */
export const openLastUsedStore = (
  readModelUrl: string,
  file: string,
  prefix: string,
  logger: BaseLogger,
): LastUsedStore =>
  readModelUrl === 'memory:' ? openSqliteLastUsedStore(file, logger) : openRedisLastUsedStore(readModelUrl, prefix);
