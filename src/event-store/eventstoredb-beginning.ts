import { setTimeout as pause } from 'node:timers/promises';
import { jsonEvent, NO_STREAM, StreamNotFoundError, WrongExpectedVersionError } from '@eventstore/db-client';
import { v4 as uuid, validate } from 'uuid';
import type { Connection } from './eventstoredb-connection.js';
import { reasonOf, verdictOf, withinTime } from './eventstoredb-failures.js';
import { readPatiently } from './eventstoredb-reads.js';

/** The stream whose one event makes the log id. No reader is given it. */
export const LOG_STREAM = 'keyledger-log';
const ATTEMPT_LIMIT_MS = 4000;
const PAUSE_MS = 250;

export type Beginning = { readonly logId: string; readonly commit: bigint; readonly prepare: bigint };

/**
 * The beginning of the log; makes it in a database that has none. Whoever loses the race for it gets
 * the winner's. Waits for a server that is starting.
 * @param patienceMs for so long
 * @throws Error why there is no log to work with; the message holds no credentials
 */
export async function findOrMakeBeginning(connection: Connection, patienceMs: number): Promise<Beginning> {
  const giveUpAt = performance.now() + patienceMs;
  for (;;) {
    try {
      const found = await findBeginning(connection);
      if (found) return found;
      await makeBeginning(connection);
    } catch (error) {
      if (error instanceof NotALogError) throw error;
      if (verdictOf(error) === 'final' || performance.now() + PAUSE_MS > giveUpAt) {
        throw new Error(`Cannot open the log at ${connection.address}: ${reasonOf(error)}`);
      }
      await pause(PAUSE_MS);
    }
  }
}

/** Undefined if nothing was ever logged here. */
export async function findBeginning({ client, credentials }: Connection): Promise<Beginning | undefined> {
  try {
    const read = client.readStream(LOG_STREAM, { maxCount: 1, ...credentials });
    for await (const { event } of readPatiently(read, ATTEMPT_LIMIT_MS)) {
      const { logId } = (event?.data ?? {}) as { logId?: unknown };
      if (!validate(logId)) {
        throw new NotALogError(`The stream ${LOG_STREAM} was not written by Keyledger: it holds no log id`);
      }
      if (!event?.position) throw new NotALogError('Keyledger needs EventStoreDB 22.10 or later');
      return { logId: logId as string, ...event.position };
    }
  } catch (error) {
    if (!(error instanceof StreamNotFoundError)) throw error;
  }
  return undefined;
}

async function makeBeginning({ client, appendCredentials }: Connection): Promise<void> {
  const created = jsonEvent({ type: 'LogCreated', data: { logId: uuid() }, metadata: {} });
  const options = { expectedRevision: NO_STREAM, deadline: ATTEMPT_LIMIT_MS, ...appendCredentials } as const;
  try {
    await withinTime(ATTEMPT_LIMIT_MS, client.appendToStream(LOG_STREAM, created, options));
  } catch (error) {
    if (!(error instanceof WrongExpectedVersionError)) throw error;
  }
}

class NotALogError extends Error {}
