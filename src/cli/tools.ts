import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import type { AccessContext } from '../commands/record-access.js';
import { loadSettings, type Settings } from '../config.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore } from '../event-store/event-store.js';
import { isSqliteUrl, openEventStore, sqliteFile } from '../event-store/open.js';

/** Exit code when what the log holds is unknown: EX_SOFTWARE of sysexits.h. */
export const LOG_FAILED = 70;

/** Whose word the command line takes for who asks: nobody has proved it. */
const COMMAND_LINE = 'keyledger:command-line';

/**
 * Opens the log of the settings for a tool, and closes it after.
 * @param missing what to do where there is no log
 * @throws ConfigError, Error it cannot be opened
 */
export async function withLog<T>(
  use: (log: EventStore, settings: Settings) => Promise<T>,
  missing: 'refuse it' | 'make it' = 'refuse it',
): Promise<T> {
  const settings = loadSettings(process.env);
  const { EVENT_STORE_URL } = settings;
  const isThere = !isSqliteUrl(EVENT_STORE_URL) || existsSync(sqliteFile(EVENT_STORE_URL));
  if (!isThere && missing === 'refuse it') {
    throw new Error(
      `There is no log at ${sqliteFile(EVENT_STORE_URL)}; DATA_DIR or EVENT_STORE_URL says where it is`,
    );
  }
  const logFailed = ({ message }: Error) => {
    console.error(`keyledger: ${message}`);
    process.exit(LOG_FAILED);
  };
  const log = await openEventStore(EVENT_STORE_URL, logFailed, console.error);
  try {
    return await use(log, settings);
  } finally {
    await log.close();
  }
}

/** Who asks at the command line: whom the operating system says, which proves nothing. */
export const commandLine = (log: EventStore): AccessContext => ({
  log,
  clock: Date.now,
  actor: { issuer: COMMAND_LINE, subject: userInfo().username },
  requestId: randomUUID(),
  from: `command line on ${hostname()}`,
  verified: false,
});

/** What went wrong, and why it did. */
export function explain(error: unknown): string {
  const { message, cause } = error as Error;
  return error instanceof KeyledgerError && cause instanceof Error
    ? `${message} (${cause.message})`
    : message;
}
