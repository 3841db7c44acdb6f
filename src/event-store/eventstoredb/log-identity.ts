import { setTimeout as pause } from 'node:timers/promises';
import { jsonEvent, NO_STREAM, StreamNotFoundError, WrongExpectedVersionError } from '@eventstore/db-client';
import { v4 as uuid, validate } from 'uuid';
import type { Connection } from './connection.js';
import { diagnose } from './diagnosis.js';
import { readWithTimeout } from './reads.js';
import { classifyError, errorReason, withTimeout } from './retry.js';

/** Name, after the prefix, of the stream whose only event contains the log id. No reader gets that event. */
export const LOG_STREAM = 'keyledger-log';
const ATTEMPT_TIMEOUT_MS = 4000;
const RETRY_DELAY_MS = 250;
/** https://grpc.io/docs/guides/status-codes */
const UNAUTHENTICATED = 16;
/** Delays between the reports of a wait; the last one repeats. */
const REPORT_DELAYS_MS = [1000, 4000, 10_000, 20_000, 30_000, 60_000];

/** How long opening waits for a server that is unavailable or starting. */
export type WaitOptions = {
  /** Unlimited if undefined. */
  readonly limitMs?: number;
  /**
   * Called after one second, then at growing intervals; the message says what opening waits for, without credentials.
   */
  readonly onWaiting?: (message: string) => void;
};
/** For tools, which give up; a service waits without limit. */
const DEFAULT_WAIT: WaitOptions = { limitMs: 30_000 };

export type LogIdentity = { readonly logId: string; readonly commit: bigint; readonly prepare: bigint };

/**
 * Reads the identity of the log, and creates it in a database that has none; if two processes create it, both get the
 * first. Waits for a server that is unavailable or starting.
 * @param stream full name of the stream whose only event contains the log id
 * @throws Error the log cannot be opened; the message says why, without credentials
 */
export async function ensureLogIdentity(
  connection: Connection,
  stream: string,
  { limitMs = Number.POSITIVE_INFINITY, onWaiting }: WaitOptions = DEFAULT_WAIT,
): Promise<LogIdentity> {
  const giveUpAt = performance.now() + limitMs;
  let failure: unknown;
  const opened = new AbortController();
  if (onWaiting) void report(connection, () => failure, onWaiting, opened.signal);
  try {
    for (;;) {
      try {
        const found = await findLogIdentity(connection, stream);
        if (found) return found;
        await createLogIdentity(connection, stream);
      } catch (error) {
        if (error instanceof NotALogError) throw error;
        if (isPermanent(error) || performance.now() + RETRY_DELAY_MS > giveUpAt) {
          const reason = (await diagnose(connection)) ?? errorReason(error);
          throw new Error(`Cannot open the log at ${connection.address}: ${reason}`);
        }
        failure = error;
        await pause(RETRY_DELAY_MS);
      }
    }
  } finally {
    opened.abort();
  }
}

/** Retrying cannot help: the server rejects the credentials, or the call itself. */
const isPermanent = (error: unknown): boolean =>
  classifyError(error) === 'final' || (error as { code?: number }).code === UNAUTHENTICATED;

/** Reports what opening waits for, and why, until the signal. */
async function report(
  connection: Connection,
  failure: () => unknown,
  onWaiting: (message: string) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let reports = 0; ; reports++) {
    const delay = REPORT_DELAYS_MS[Math.min(reports, REPORT_DELAYS_MS.length - 1)];
    await pause(delay, undefined, { signal, ref: false }).catch(() => undefined);
    const diagnosis = signal.aborted ? undefined : await diagnose(connection);
    if (signal.aborted) return;
    const error = failure();
    const reason = diagnosis ?? (error === undefined ? 'it does not answer' : errorReason(error));
    onWaiting(`Waiting for the log at ${connection.address}: ${reason}`);
  }
}

/** Undefined if the database has no log yet. @throws Error the stream is not Keyledger's */
export async function findLogIdentity(
  { client, credentials }: Connection,
  stream: string,
): Promise<LogIdentity | undefined> {
  try {
    const read = client.readStream(stream, { maxCount: 1, ...credentials });
    for await (const { event } of readWithTimeout(read, ATTEMPT_TIMEOUT_MS)) {
      const { logId } = (event?.data ?? {}) as { logId?: unknown };
      if (!validate(logId)) {
        throw new NotALogError(`The stream ${stream} was not written by Keyledger: it holds no log id`);
      }
      if (!event?.position) throw new NotALogError('Keyledger needs EventStoreDB 22.10 or later');
      return { logId: logId as string, ...event.position };
    }
  } catch (error) {
    if (!(error instanceof StreamNotFoundError)) throw error;
  }
  return undefined;
}

async function createLogIdentity({ client, appendCredentials }: Connection, stream: string): Promise<void> {
  const created = jsonEvent({ type: 'LogCreated', data: { logId: uuid() }, metadata: {} });
  const options = {
    expectedRevision: NO_STREAM,
    deadline: ATTEMPT_TIMEOUT_MS,
    ...appendCredentials,
  } as const;
  try {
    await withTimeout(ATTEMPT_TIMEOUT_MS, client.appendToStream(stream, created, options));
  } catch (error) {
    if (!(error instanceof WrongExpectedVersionError)) throw error;
  }
}

class NotALogError extends Error {}
