import {
  type EventStoreDBClient,
  type JSONType,
  jsonEvent,
  NO_STREAM,
  WrongExpectedVersionError,
} from '@eventstore/db-client';
import { KeyledgerError } from '../../domain/errors.js';
import { type AppendRequest, conflictError, type ExpectedRevision } from '../event-store.js';
import { serializeEvent } from '../serialize-event.js';
import { classifyError, TimeoutError } from './retry.js';

/** So many appends, and characters of JSON, are on their way at most. */
const MAX_IN_FLIGHT = 1024;
const MAX_LENGTH_IN_FLIGHT = 4 * 1024 * 1024;
/** The server is given up when it acknowledges nothing for so long, in milliseconds. */
const ACK_TIMEOUT_MS = 10_000;

type InFlight = { readonly length: number; readonly done: Promise<void> };

/**
 * Appends through the client's one call for batched appends, which the server does in the order in which
 * they come: 10 to 20 times as fast as waiting for each. Any failure is the end, because what was
 * on its way behind it may be done or not; see Connection.appendCredentials for what else is the matter
 * with that call.
 * @param client one that is used for nothing else
 * @throws KeyledgerError CONFLICT, UNAVAILABLE, OUTCOME_UNKNOWN; RangeError as append
 */
export async function appendBatched(
  client: EventStoreDBClient,
  appends: AsyncIterable<AppendRequest>,
): Promise<void> {
  const inFlight: InFlight[] = [];
  let length = 0;
  let last = -1n;
  let silent = false;
  const send = async ({ stream, events, expectedRevision: expected }: AppendRequest) => {
    const { position } = await client.appendToStream(
      stream,
      events.map(({ id, type, data, metadata }) =>
        jsonEvent({ id, type, data: data as JSONType, metadata: metadata as JSONType }),
      ),
      { expectedRevision: expected === 'no-stream' ? NO_STREAM : BigInt(expected) },
    );
    // What was there already is answered with its first place, which is before that of what is new.
    if (!position || position.commit <= last) throw new OrderLostError(stream);
    last = position.commit;
  };
  const oldest = async () => {
    const { length: done, done: answered } = inFlight[0] as InFlight;
    await withAckTimeout(answered).catch((error: KeyledgerError) => {
      silent = error.cause instanceof TimeoutError;
      throw error;
    });
    inFlight.shift();
    length -= done;
  };
  /** When the call breaks, the client rejects promises that nobody was given. */
  const ignore = () => undefined;
  process.on('unhandledRejection', ignore);
  try {
    for await (const append of appends) {
      const size = jsonLength(append);
      const done = send(append).catch((error: unknown) => {
        throw toKeyledgerError(error, append.stream);
      });
      done.catch(ignore);
      inFlight.push({ length: size, done });
      length += size;
      // The first one opens the call: what came at the same time would be sent in any order.
      const only = last < 0n ? 1 : MAX_IN_FLIGHT;
      while (inFlight.length >= only || length > MAX_LENGTH_IN_FLIGHT) {
        await oldest();
        if (inFlight.length === 0) break;
      }
    }
    while (inFlight.length > 0) await oldest();
  } finally {
    // An answer that came after the end of the call would end the process.
    if (!silent) await withAckTimeout(Promise.allSettled(inFlight.map(({ done }) => done))).catch(ignore);
    process.off('unhandledRejection', ignore);
  }
}

class OrderLostError extends Error {
  constructor(stream: string) {
    super(`EventStoreDB did not keep the order of the appends, at stream ${stream}`);
  }
}

function jsonLength({ events }: AppendRequest): number {
  if (events.length === 0) throw new RangeError('An append needs an event');
  return events.reduce((sum, event) => {
    const { data, metadata } = serializeEvent(event);
    return sum + data.length + metadata.length;
  }, 0);
}

function toKeyledgerError(error: unknown, stream: string): Error {
  if (error instanceof WrongExpectedVersionError) {
    const { actualVersion } = error;
    const actualRevision: ExpectedRevision =
      typeof actualVersion === 'bigint' ? Number(actualVersion) : 'no-stream';
    return conflictError(stream, actualRevision);
  }
  const code = classifyError(error) === 'final' ? 'UNAVAILABLE' : 'OUTCOME_UNKNOWN';
  return new KeyledgerError(code, { cause: error });
}

async function withAckTimeout<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const tooLate = () =>
      reject(new KeyledgerError('OUTCOME_UNKNOWN', { cause: new TimeoutError(ACK_TIMEOUT_MS) }));
    timer = setTimeout(tooLate, ACK_TIMEOUT_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
