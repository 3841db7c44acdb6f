import type { BaseLogger } from 'pino';
import type { DeliveryStore } from './delivery-store.js';
import { openRedisDeliveries } from './redis-delivery-store.js';
import { openSqliteDeliveries } from './sqlite-delivery-store.js';

/** Cursors lie beside the read model: in a SQLite file if that is `memory:`, else in the same Redis. */
export const openDeliveryStore = (
  readModelUrl: string,
  file: string,
  prefix: string,
  logId: string,
  logger: BaseLogger,
): DeliveryStore =>
  readModelUrl === 'memory:'
    ? openSqliteDeliveries(file, logId, logger)
    : openRedisDeliveries(readModelUrl, prefix, logId);
