import type { BaseLogger } from 'pino';
import type { ReadModel } from './read-model.js';
import { openRedisReadModel } from './redis/read-model.js';

/**
 * Opens the read model of a URL of connectRedis; undefined for `memory:`, where each process serves lists from its own
 * projections.
 */
export const openReadModel = (url: string, prefix: string, logger: BaseLogger): ReadModel | undefined =>
  url === 'memory:' ? undefined : openRedisReadModel(url, prefix, logger);
