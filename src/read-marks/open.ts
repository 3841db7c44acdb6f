import type { BaseLogger } from 'pino';
import type { ReadMarks } from './read-marks.js';
import { openRedisReadMarks } from './redis-read-marks.js';
import { openSqliteReadMarks } from './sqlite-read-marks.js';

/** Read marks are stored beside the read model: in a SQLite file if that is `memory:`, else in the same Redis. */
export const openReadMarks = (readModelUrl: string, file: string, prefix: string, logger: BaseLogger): ReadMarks =>
  readModelUrl === 'memory:' ? openSqliteReadMarks(file, logger) : openRedisReadMarks(readModelUrl, prefix);
