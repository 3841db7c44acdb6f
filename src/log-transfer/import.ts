import {
  type AppendRequest,
  type EventStore,
  MAX_EVENT_BYTES,
  type NewEvent,
  type RecordedEvent,
} from '../event-store/event-store.js';
import { countOf } from '../quantity.js';
import type { ExportedEvent } from './export.js';
import { bytesOf } from './read-export.js';

/** The log holds something else than the beginning of the export; nothing was written. */
export class OtherContentError extends Error {}

export type Imported = {
  /** Events that an import before this one had written. */
  readonly there: number;
  readonly written: number;
};

/**
 * Brings the events of an export into a log that is empty, or holds the beginning of the same export:
 * then it goes on behind that. Ids, streams, revisions, types, data and order are those of the export.
 * @param events an export that was checked
 * @param onEvent told of each event that is there or on its way
 * @throws OtherContentError
 * @throws KeyledgerError as bulkAppend
 */
export async function importEvents(
  log: EventStore,
  events: AsyncGenerator<ExportedEvent>,
  onEvent: () => void,
): Promise<Imported> {
  let written = 0;
  try {
    const there = await skipExisting(log, events, onEvent);
    const appends = async function* (): AsyncIterable<AppendRequest> {
      for await (const event of events) {
        yield appendOf(event);
        written++;
        onEvent();
      }
    };
    await log.bulkAppend(appends());
    return { there, written };
  } finally {
    await events.return(undefined);
  }
}

/** Goes through what the log holds and the export side by side. @returns how many events that are */
async function skipExisting(
  log: EventStore,
  events: AsyncIterator<ExportedEvent>,
  onEvent: () => void,
): Promise<number> {
  let there = 0;
  for await (const held of log.readAll()) {
    const { value: exported, done } = await events.next();
    if (done) {
      throw new OtherContentError(
        `The log holds ${there === 1 ? 'the only event' : `all ${countOf(there, 'events')}`} of this export, and behind them others, the first of them ${named(held)}: it has gone on since. Nothing was written`,
      );
    }
    if (!isSame(held, exported)) {
      throw new OtherContentError(
        `The log holds something else than the beginning of this export: its event ${there + 1} is ${named(held)}, that of the export ${named(exported)}. Nothing was written; take an empty log`,
      );
    }
    there++;
    onEvent();
  }
  return there;
}

const isSame = (held: RecordedEvent, exported: ExportedEvent): boolean =>
  held.stream === exported.stream &&
  held.revision === exported.revision &&
  held.type === exported.type &&
  held.id.toLowerCase() === exported.id.toLowerCase();

const named = ({ type, stream, revision, id }: RecordedEvent | ExportedEvent): string =>
  `${type} ${id} (revision ${revision} of ${stream})`;

const appendOf = (event: ExportedEvent): AppendRequest => ({
  stream: event.stream,
  events: [newEvent(event)],
  expectedRevision: event.revision === 0 ? 'no-stream' : event.revision - 1,
});

/**
 * The event as the copy holds it. Its metadata says where and when it was recorded first, also in a
 * copy of a copy: an event that cannot be read has no other time.
 */
function newEvent({ id, type, data, metadata, position, recordedAt }: ExportedEvent): NewEvent {
  const event = { id, type, data, metadata } as NewEvent;
  if (!isObject(metadata) || Object.hasOwn(metadata, 'importedFrom')) return event;
  const told = { ...event, metadata: { ...metadata, importedFrom: { position, recordedAt } } };
  // An event of the largest size has no room for it.
  return bytesOf(told) > MAX_EVENT_BYTES ? event : told;
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
