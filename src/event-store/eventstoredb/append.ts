import { NO_STREAM, WrongExpectedVersionError } from '@eventstore/db-client';
import type { AppendRequest, AppendResult, ExpectedRevision } from '../event-store.js';
import type { Connection } from './connection.js';
import { type EventMapping, toEventData } from './event-mapping.js';

/** One attempt to append. @throws what the client throws, except for a conflict */
export async function appendOnce(
  { client, appendCredentials }: Connection,
  mapping: EventMapping,
  { stream, events, expectedRevision }: AppendRequest,
  deadline: number,
): Promise<AppendResult> {
  try {
    const { nextExpectedRevision, position } = await client.appendToStream(
      mapping.stream(stream),
      events.map(toEventData),
      { expectedRevision: toClientRevision(expectedRevision), deadline, ...appendCredentials },
    );
    return { appended: true, revision: Number(nextExpectedRevision), position: mapping.position(position) };
  } catch (error) {
    if (!(error instanceof WrongExpectedVersionError)) throw error;
    return { appended: false, actualRevision: fromClientRevision(error.actualVersion) };
  }
}

export const toClientRevision = (revision: ExpectedRevision) =>
  revision === 'no-stream' ? NO_STREAM : BigInt(revision);

/** The client uses a string for the revision of a stream that does not exist. */
export const fromClientRevision = (version: bigint | string): ExpectedRevision =>
  typeof version === 'bigint' ? Number(version) : 'no-stream';
