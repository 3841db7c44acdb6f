import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { type AuditAccessRecord, type AuditContext, recordAuditAccess } from '../commands/record-audit-access.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore } from '../event-store/event-store.js';
import { isSqliteUrl, openEventStore, sqliteFile } from '../event-store/open.js';
import { READ_MODEL_SCRIPTS } from '../projections/redis/scripts.js';
import { type Connection, connectRedis, isRedisUrl } from '../redis/connection.js';
import { describeRedisProblem, NO_CONNECTION } from '../redis/report.js';
import { redactUrl } from '../security/redact-url.js';
import { loadSettings, type Settings } from '../settings.js';
import { printError } from '../terminal-text.js';
import { operatingSystemUser } from './options.js';

/** Exit code when the state of the log is unknown: EX_SOFTWARE of sysexits.h. */
export const LOG_FAILED = 70;

/** Exit code of a process whose output has no reader left: 128 plus the number of SIGPIPE. */
const BROKEN_PIPE = 141;

/** Timeout of a command for an unavailable EventStoreDB (milliseconds). */
const LOG_TIMEOUT_MS = 30_000;

/** Timeout of a command for Redis (milliseconds). */
const REDIS_TIMEOUT_MS = 5000;

/** Issuer of actors on the command line, whose identity is not proved. */
const COMMAND_LINE_ISSUER = 'keyledger:command-line';

/**
 * Opens the configured log for a command, and closes it afterwards.
 * @param purpose 'to write' creates a missing log; 'to read' accepts a read-only copy, and warns on stderr that it does
 * not record the access
 * @throws ConfigError, Error the log cannot be opened
 */
export async function withLog<T>(
  use: (log: EventStore, settings: Settings) => Promise<T>,
  purpose: 'to read' | 'to write' = 'to read',
): Promise<T> {
  const settings = loadSettings(process.env);
  const { EVENT_STORE_URL, EVENT_STORE_PREFIX: prefix } = settings;
  const isThere = !isSqliteUrl(EVENT_STORE_URL) || existsSync(sqliteFile(EVENT_STORE_URL));
  if (!isThere && purpose === 'to read') {
    throw new Error(`There is no log at ${sqliteFile(EVENT_STORE_URL)}; set DATA_DIR or EVENT_STORE_URL`);
  }
  const logFailed = ({ message }: Error) => {
    printError(`keyledger: ${message}`);
    process.exit(LOG_FAILED);
  };
  const wait = { limitMs: LOG_TIMEOUT_MS, onWaiting: printError };
  const options = { onFatal: logFailed, warn: printError, purpose, prefix, wait };
  const log = await openEventStore(EVENT_STORE_URL, options);
  if (log.readOnly) {
    printError(`${sqliteFile(EVENT_STORE_URL)} is a read-only copy: it does not record this access`);
  }
  try {
    return await use(log, settings);
  } finally {
    await log.close();
  }
}

/** Ends a command whose output fails: its reader has stopped, such as `head`, or the disk is full. */
export function endWhenOutputFails(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(BROKEN_PIPE);
  printError(`keyledger: cannot write to standard output: ${error.message}`);
  process.exit(1);
}

/**
 * Connects to the configured Redis for a command; undefined if the read model is in memory.
 * @throws Error Redis is unavailable
 */
export async function withRedis<T>(
  { READ_MODEL_URL }: Settings,
  use: (redis: Connection) => Promise<T>,
): Promise<T | undefined> {
  if (!isRedisUrl(READ_MODEL_URL)) return undefined;
  const redis = connectRedis(READ_MODEL_URL, READ_MODEL_SCRIPTS);
  let reason = 'it does not answer';
  redis.on('error', ({ message }: Error) => {
    reason = message;
  });
  try {
    await once(redis, 'ready', { signal: AbortSignal.timeout(REDIS_TIMEOUT_MS) }).catch(() => {
      throw new Error(describeRedisProblem(READ_MODEL_URL, reason));
    });
    return await use(redis);
  } catch (error) {
    const { name, message } = error as Error;
    if (name === 'ReplyError') throw new Error(describeRedisProblem(READ_MODEL_URL, message));
    if (!NO_CONNECTION.test(message)) throw error;
    const where = redactUrl(READ_MODEL_URL);
    throw new Error(`Redis at ${where} no longer answers: ${message}. Run the command again when it does`);
  } finally {
    redis.disconnect();
  }
}

/** Audit context of the command line: its actor is the user of the operating system, which proves nothing. */
export const commandLine = (log: EventStore): AuditContext => ({
  log,
  clock: Date.now,
  actor: { issuer: COMMAND_LINE_ISSUER, subject: operatingSystemUser() },
  requestId: randomUUID(),
  from: `command line on ${hostname()}`,
  verified: false,
});

/**
 * Records the access in the log before the first output. Only a read-only copy is read without a record.
 * @throws KeyledgerError UNAVAILABLE, OUTCOME_UNKNOWN
 */
export async function recordCommandLineAccess(log: EventStore, record: AuditAccessRecord): Promise<void> {
  if (!log.readOnly) await recordAuditAccess(commandLine(log), record);
}

/** Message of an error, with its cause. */
export function explain(error: unknown): string {
  const { message, cause } = error as Error;
  return error instanceof KeyledgerError && cause instanceof Error ? `${message} (${cause.message})` : message;
}
