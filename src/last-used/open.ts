import type { BaseLogger } from 'pino';
import type { UsageStore } from './last-used-store.js';
import { openRedisUsage } from './redis-last-used.js';
import { openSqliteUsage } from './sqlite-last-used.js';

/** Last uses lie beside the read model: in a SQLite file if that is `memory:`, else in the same Redis. */
export const openUsageStore = (
  readModelUrl: string,
  file: string,
  prefix: string,
  logger: BaseLogger,
): UsageStore =>
  readModelUrl === 'memory:' ? openSqliteUsage(file, logger) : openRedisUsage(readModelUrl, prefix);
