import type { BaseLogger } from 'pino';
import { openRedisUsage } from './redis-usage.js';
import { openSqliteUsage } from './sqlite-usage.js';
import type { UsageStore } from './usage-store.js';

/** Last uses lie beside the read model: in a SQLite file if that is `memory:`, else in the same Redis. */
export const openUsageStore = (
  readModelUrl: string,
  file: string,
  prefix: string,
  logger: BaseLogger,
): UsageStore =>
  readModelUrl === 'memory:' ? openSqliteUsage(file, logger) : openRedisUsage(readModelUrl, prefix);
