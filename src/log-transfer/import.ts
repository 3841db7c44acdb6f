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
export class ContentMismatchError extends Error {}

export type Imported = {
  /** Events that an import before this one had written. */
  readonly existing: number;
  readonly written: number;
};

/**
 * Brings the events of an export into a log that is empty, or holds the beginning of the same export:
 * then it goes on behind that. Ids, streams, revisions, types, data and order are those of the export.
 * @param events an export that was checked
 * @param onEvent told of each event that is there or on its way
 * @throws ContentMismatchError
 * @throws KeyledgerError as bulkAppend
 */
export async function importEvents(
  log: EventStore,
  events: AsyncGenerator<ExportedEvent>,
  onEvent: () => void,
): Promise<Imported> {
  let written = 0;
  try {
    const existing = await skipExisting(log, events, onEvent);
    const appends = async function* (): AsyncIterable<AppendRequest> {
      for await (const event of events) {
        yield toAppend(event);
        written++;
        onEvent();
      }
    };
    await log.bulkAppend(appends());
    return { existing, written };
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
  let existing = 0;
  for await (const logged of log.readAll()) {
    const { value: exported, done } = await events.next();
    if (done) {
      throw new ContentMismatchError(
        `The log holds ${existing === 1 ? 'the only event' : `all ${countOf(existing, 'events')}`} of this export, and behind them others, the first of them ${describeEvent(logged)}: it has gone on since. Nothing was written`,
      );
    }
    if (!isSame(logged, exported)) {
      throw new ContentMismatchError(
        `The log holds something else than the beginning of this export: its event ${existing + 1} is ${describeEvent(logged)}, that of the export ${describeEvent(exported)}. Nothing was written; take an empty log`,
      );
    }
    existing++;
    onEvent();
  }
  return existing;
}

const isSame = (logged: RecordedEvent, exported: ExportedEvent): boolean =>
  logged.stream === exported.stream &&
  logged.revision === exported.revision &&
  logged.type === exported.type &&
  logged.id.toLowerCase() === exported.id.toLowerCase();

const describeEvent = ({ type, stream, revision, id }: RecordedEvent | ExportedEvent): string =>
  `${type} ${id} (revision ${revision} of ${stream})`;

const toAppend = (event: ExportedEvent): AppendRequest => ({
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
  const withOrigin = { ...event, metadata: { ...metadata, importedFrom: { position, recordedAt } } };
  // An event of the largest size has no room for it.
  return bytesOf(withOrigin) > MAX_EVENT_BYTES ? event : withOrigin;
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
