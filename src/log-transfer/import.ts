import { KeyledgerError } from '../domain/errors.js';
import {
  type AppendRequest,
  type BulkAppendResult,
  type EventStore,
  MAX_EVENT_BYTES,
  type NewEvent,
  type RecordedEvent,
} from '../event-store/event-store.js';
import { countOf } from '../quantity.js';
import type { ExportedEvent } from './export.js';
import { eventBytes } from './read-export.js';

/** The log does not hold the beginning of the export; the import has written nothing. */
export class ContentMismatchError extends Error {}

export type Imported = {
  /** Events that an earlier import has written. */
  readonly existing: number;
  readonly written: number;
};

/**
 * Imports the events of an export into a log that is empty, or that holds the beginning of the same export, and then
 * continues after it. Keeps ids, streams, revisions, types, data and order of the export.
 * @param events an export that has been checked
 * @param onEvent called with each event that exists already or is being written
 * @throws ContentMismatchError
 * @throws KeyledgerError CONFLICT, and as bulkAppend
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
    const result = await log.bulkAppend(appends());
    if (!result.appended) throw conflictError(result);
    return { existing, written };
  } finally {
    await events.return(undefined);
  }
}

/**
 * Compares the events of the log with those of the export, one by one.
 * @returns the number of events in the log
 */
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
        `The log holds ${existing === 1 ? 'the only event' : `all ${countOf(existing, 'events')}`} of this export and later ones, the first of them ${describeEvent(logged)}: it has grown since. Nothing was written`,
      );
    }
    if (!isSame(logged, exported)) {
      throw new ContentMismatchError(
        `The log does not hold the beginning of this export: its event ${existing + 1} is ${describeEvent(logged)}, that of the export ${describeEvent(exported)}. Nothing was written; import into an empty log`,
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
 * The event as the copy holds it. Its metadata keeps where and when it was first recorded, also in a copy of a copy: an
 * unreadable event has no other time.
 */
function newEvent({ id, type, data, metadata, position, recordedAt }: ExportedEvent): NewEvent {
  const event = { id, type, data, metadata } as NewEvent;
  if (!isObject(metadata) || Object.hasOwn(metadata, 'importedFrom')) return event;
  const withOrigin = { ...event, metadata: { ...metadata, importedFrom: { position, recordedAt } } };
  // An event of the maximum size has no room for its origin.
  return eventBytes(withOrigin) > MAX_EVENT_BYTES ? event : withOrigin;
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const conflictError = ({ stream, actualRevision }: Extract<BulkAppendResult, { appended: false }>) =>
  new KeyledgerError('CONFLICT', {
    message: `The stream ${stream} is not at the expected revision: ${actualRevision === 'no-stream' ? 'it is empty' : `its last revision is ${actualRevision}`}`,
  });
