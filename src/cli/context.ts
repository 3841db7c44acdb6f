import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import {
  type AuditAccessRecord,
  type AuditContext,
  recordAuditAccess,
} from '../commands/record-audit-access.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore } from '../event-store/event-store.js';
import { isSqliteUrl, openEventStore, sqliteFile } from '../event-store/open.js';
import { READ_MODEL_SCRIPTS } from '../projections/redis/scripts.js';
import { type Connection, connectRedis, isRedisUrl } from '../redis/connection.js';
import { describeRedisProblem } from '../redis/report.js';
import { redactUrl } from '../security/redact-url.js';
import { loadSettings, type Settings } from '../settings.js';
import { operatingSystemUser } from './options.js';
import { printError } from './terminal-text.js';

/** Exit code when what the log holds is unknown: EX_SOFTWARE of sysexits.h. */
export const LOG_FAILED = 70;

/** Exit code of a process whose reader has gone: 128 and the number of SIGPIPE. */
const BROKEN_PIPE = 141;

/** How long a tool waits for an EventStoreDB that cannot be reached (milliseconds). */
const LOG_TIMEOUT_MS = 30_000;

/** So long a tool waits for Redis, in milliseconds. */
const REDIS_TIMEOUT_MS = 5000;

/** What ioredis says of a server that is gone or frozen. */
const CONNECTION_LOST = /^(Command timed out|Connection is closed|Stream isn't writeable)/;

/** Whose word the command line takes for who asks: nobody has proved it. */
const COMMAND_LINE_ISSUER = 'keyledger:command-line';

/**
 * Opens the log of the settings for a tool, and closes it after.
 * @param purpose 'to write' makes a log where there is none; 'to read' takes a read-only copy, and says on stderr that
 * nobody records who looks
 * @throws ConfigError, Error it cannot be opened
 */
export async function withLog<T>(
  use: (log: EventStore, settings: Settings) => Promise<T>,
  purpose: 'to read' | 'to write' = 'to read',
): Promise<T> {
  const settings = loadSettings(process.env);
  const { EVENT_STORE_URL, EVENT_STORE_PREFIX: prefix } = settings;
  const isThere = !isSqliteUrl(EVENT_STORE_URL) || existsSync(sqliteFile(EVENT_STORE_URL));
  if (!isThere && purpose === 'to read') {
    throw new Error(
      `There is no log at ${sqliteFile(EVENT_STORE_URL)}; DATA_DIR or EVENT_STORE_URL says where it is`,
    );
  }
  const logFailed = ({ message }: Error) => {
    printError(`keyledger: ${message}`);
    process.exit(LOG_FAILED);
  };
  const wait = { limitMs: LOG_TIMEOUT_MS, onWaiting: printError };
  const options = { onFatal: logFailed, warn: printError, purpose, prefix, wait };
  const log = await openEventStore(EVENT_STORE_URL, options);
  if (log.readOnly) {
    printError(`${sqliteFile(EVENT_STORE_URL)} is a read-only copy: it does not record that you look at it`);
  }
  try {
    return await use(log, settings);
  } finally {
    await log.close();
  }
}

/** Ends a tool whose output cannot be written: its reader has stopped, such as `head`, or the disk is full. */
export function endWhenOutputFails(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(BROKEN_PIPE);
  printError(`keyledger: standard output cannot be written: ${error.message}`);
  process.exit(1);
}

/**
 * Connects to the Redis of the settings for a tool; undefined if the read model is in memory.
 * @throws Error it is out of reach
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
    if (!CONNECTION_LOST.test(message)) throw error;
    const where = redactUrl(READ_MODEL_URL);
    throw new Error(`Redis at ${where} does not answer any more: ${message}. Run it again when it does`);
  } finally {
    redis.disconnect();
  }
}

/** Who asks at the command line: whom the operating system says, which proves nothing. */
export const commandLine = (log: EventStore): AuditContext => ({
  log,
  clock: Date.now,
  actor: { issuer: COMMAND_LINE_ISSUER, subject: operatingSystemUser() },
  requestId: randomUUID(),
  from: `command line on ${hostname()}`,
  verified: false,
});

/**
 * Records in the log that somebody is about to look, before the first word of the answer. Only a read-only copy is shown
 * without a record.
 * @throws KeyledgerError UNAVAILABLE, OUTCOME_UNKNOWN
 */
export async function recordCommandLineAccess(log: EventStore, record: AuditAccessRecord): Promise<void> {
  if (!log.readOnly) await recordAuditAccess(commandLine(log), record);
}

/** What went wrong, and why it did. */
export function explain(error: unknown): string {
  const { message, cause } = error as Error;
  return error instanceof KeyledgerError && cause instanceof Error
    ? `${message} (${cause.message})`
    : message;
}
