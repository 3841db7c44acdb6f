import type { BaseLogger } from 'pino';
import type { DeliveryStore } from './delivery-store.js';
import { openRedisDeliveryStore } from './redis-delivery-store.js';
import { openSqliteDeliveryStore } from './sqlite-delivery-store.js';

/** Opens the store beside the read model: a SQLite file if that is `memory:`, else the same Redis. */
export const openDeliveryStore = (
  readModelUrl: string,
  file: string,
  prefix: string,
  logId: string,
  logger: BaseLogger,
): DeliveryStore =>
  readModelUrl === 'memory:'
    ? openSqliteDeliveryStore(file, logId, logger)
    : openRedisDeliveryStore(readModelUrl, prefix, logId);
