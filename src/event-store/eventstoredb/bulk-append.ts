import {
  type EventStoreDBClient,
  type JSONType,
  jsonEvent,
  NO_STREAM,
  WrongExpectedVersionError,
} from '@eventstore/db-client';
import { KeyledgerError } from '../../domain/errors.js';
import { jsonOf } from '../event-json.js';
import { type Append, conflictOf, type Expected } from '../event-store.js';
import { NoAnswerError, verdictOf } from './retry.js';

/** So many appends, and characters of JSON, are on their way at most. */
const IN_FLIGHT = 1024;
const LENGTH_IN_FLIGHT = 4 * 1024 * 1024;
/** The server is given up when it acknowledges nothing for so long, in milliseconds. */
const PATIENCE_MS = 10_000;

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
  appends: AsyncIterable<Append>,
): Promise<void> {
  const inFlight: InFlight[] = [];
  let length = 0;
  let last = -1n;
  let silent = false;
  const send = async ({ stream, events, expected }: Append) => {
    const { position } = await client.appendToStream(
      stream,
      events.map(({ id, type, data, metadata }) =>
        jsonEvent({ id, type, data: data as JSONType, metadata: metadata as JSONType }),
      ),
      { expectedRevision: expected === 'none' ? NO_STREAM : BigInt(expected) },
    );
    // What was there already is answered with its first place, which is before that of what is new.
    if (!position || position.commit <= last) throw new OrderLostError(stream);
    last = position.commit;
  };
  const oldest = async () => {
    const { length: done, done: answered } = inFlight[0] as InFlight;
    await withPatience(answered).catch((error: KeyledgerError) => {
      silent = error.cause instanceof NoAnswerError;
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
      const size = lengthOf(append);
      const done = send(append).catch((error: unknown) => {
        throw failureOf(error, append.stream);
      });
      done.catch(ignore);
      inFlight.push({ length: size, done });
      length += size;
      // The first one opens the call: what came at the same time would be sent in any order.
      const only = last < 0n ? 1 : IN_FLIGHT;
      while (inFlight.length >= only || length > LENGTH_IN_FLIGHT) {
        await oldest();
        if (inFlight.length === 0) break;
      }
    }
    while (inFlight.length > 0) await oldest();
  } finally {
    // An answer that came after the end of the call would end the process.
    if (!silent) await withPatience(Promise.allSettled(inFlight.map(({ done }) => done))).catch(ignore);
    process.off('unhandledRejection', ignore);
  }
}

class OrderLostError extends Error {
  constructor(stream: string) {
    super(`EventStoreDB did not keep the order of the appends, at stream ${stream}`);
  }
}

function lengthOf({ events }: Append): number {
  if (events.length === 0) throw new RangeError('An append needs an event');
  return events.reduce((sum, event) => {
    const { data, metadata } = jsonOf(event);
    return sum + data.length + metadata.length;
  }, 0);
}

function failureOf(error: unknown, stream: string): Error {
  if (error instanceof WrongExpectedVersionError) {
    const { actualVersion } = error;
    const actual: Expected = typeof actualVersion === 'bigint' ? Number(actualVersion) : 'none';
    return conflictOf(stream, actual);
  }
  const code = verdictOf(error) === 'final' ? 'UNAVAILABLE' : 'OUTCOME_UNKNOWN';
  return new KeyledgerError(code, { cause: error });
}

async function withPatience<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const tooLate = () =>
      reject(new KeyledgerError('OUTCOME_UNKNOWN', { cause: new NoAnswerError(PATIENCE_MS) }));
    timer = setTimeout(tooLate, PATIENCE_MS);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
