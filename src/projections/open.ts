import type { BaseLogger } from 'pino';
import { memoryReadModel } from './memory-read-model.js';
import type { ReadModel } from './read-model.js';
import { openRedisReadModel } from './redis/read-model.js';

/** Opens the read model of a URL: `memory:`, or a URL of connectRedis. */
export const openReadModel = (url: string, prefix: string, logger: BaseLogger): ReadModel =>
  url === 'memory:' ? memoryReadModel() : openRedisReadModel(url, prefix, logger);
