import type { BaseLogger } from 'pino';
import { memoryReadModel } from './memory-read-model.js';
import type { ReadModel } from './read-model.js';
import { openRedisReadModel } from './redis/read-model.js';

/** The read model that a URL names: `memory:`, or Redis as of connectRedis. */
export const openReadModel = (url: string, prefix: string, logger: BaseLogger): ReadModel =>
  url === 'memory:' ? memoryReadModel() : openRedisReadModel(url, prefix, logger);
