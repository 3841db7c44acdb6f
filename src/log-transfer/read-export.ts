import { createHash, type Hash } from 'node:crypto';
import { z } from 'zod';
import { MAX_EVENT_BYTES } from '../event-store/event-store.js';
import { isKeyledgerStream } from '../event-store/streams.js';
import { countOf } from '../quantity.js';
import { ExportedEvent, FORMAT, FORMAT_VERSION, Header, Trailer } from './export.js';

/** Maximum bytes of a line; an event of MAX_EVENT_BYTES with its field names is far shorter. */
const MAX_LINE_BYTES = 2 * MAX_EVENT_BYTES;
const LINE_FEED = 0x0a;

/** The file is not an export that can be imported. */
export class ExportError extends Error {}

/** An export that is being read. */
export type Export = {
  readonly header: Header;
  /**
   * Throws at the first invalid line, and after the last event if the export is incomplete. Read it once, to its end or
   * with `return`.
   * @throws ExportError
   */
  readonly events: AsyncGenerator<ExportedEvent>;
};

/**
 * Reads an export in constant memory.
 * @param bytes the decompressed NDJSON
 * @throws ExportError the file is not an export, or one of a later release
 */
export async function readExport(bytes: AsyncIterable<Buffer>): Promise<Export> {
  const hash = createHash('sha256');
  const lines = splitLines(bytes);
  try {
    const { value: first } = await lines.next();
    const header = parseHeader(first);
    hash.update(first as Buffer);
    return { header, events: parseEvents(lines, hash) };
  } catch (error) {
    await lines.return(undefined);
    throw error;
  }
}

/**
 * Reads an export to its end, which shows whether it is complete and unchanged.
 * @param onEvent called with each event
 * @throws ExportError what is wrong with the export
 */
export async function checkExport(
  bytes: AsyncIterable<Buffer>,
  onEvent: () => void,
): Promise<{ readonly header: Header; readonly events: number }> {
  const { header, events } = await readExport(bytes);
  let count = 0;
  for await (const _ of events) {
    count++;
    onEvent();
  }
  return { header, events: count };
}

function parseHeader(line: Buffer | undefined): Header {
  if (!line) throw new ExportError('The file is empty');
  const json = parseJson(line) as { format?: unknown; version?: unknown } | null | undefined;
  if (typeof json !== 'object' || json?.format !== FORMAT) {
    throw new ExportError('This is not an export of a log: its first line is not a header');
  }
  if (json.version !== FORMAT_VERSION) {
    throw new ExportError(
      `This export has format version ${JSON.stringify(json.version)}, but this release reads only version ${FORMAT_VERSION}: use the release that made it`,
    );
  }
  const header = Header.safeParse(json);
  if (!header.success) throw new ExportError(`The header is invalid: ${oneLineProblems(header.error)}`);
  return header.data;
}

async function* parseEvents(lines: AsyncGenerator<Buffer>, hash: Hash): AsyncGenerator<ExportedEvent> {
  let events = 0;
  try {
    for await (const line of lines) {
      const json = parseJson(line);
      const trailer = isEvent(json) ? undefined : Trailer.safeParse(json).data;
      if (trailer) {
        if (trailer.sha256 !== hash.digest('hex')) {
          throw new ExportError('The export was changed: its SHA-256 differs from that in its last line');
        }
        if (trailer.events !== events) {
          throw new ExportError(
            `The export holds ${countOf(events, 'events')}, but its last line says ${trailer.events}`,
          );
        }
        if (await hasMore(lines))
          throw new ExportError(`Data follows after the end of the export, in line ${events + 3}`);
        return;
      }
      events++;
      hash.update(line);
      yield parseEvent(json, events + 1, line.length);
    }
    throw new ExportError(`The export is truncated after ${countOf(events, 'events')}: its last line is missing`);
  } finally {
    await lines.return(undefined);
  }
}

/**
 * Whether another line follows, complete or not.
 * @throws the bytes cannot be read
 */
async function hasMore(lines: AsyncGenerator<Buffer>): Promise<boolean> {
  try {
    return !(await lines.next()).done;
  } catch (error) {
    if (error instanceof ExportError) return true;
    throw error;
  }
}

/**
 * Tells events from the trailer before validation: validating each event as a trailer would take longer than all else.
 */
const isEvent = (json: unknown): boolean => Object.hasOwn(Object(json), 'stream');

function parseEvent(json: unknown, line: number, bytes: number): ExportedEvent {
  const { success, data, error } = ExportedEvent.safeParse(json);
  if (!success) {
    throw new ExportError(`Line ${line} is not an event: ${json === undefined ? 'not JSON' : oneLineProblems(error)}`);
  }
  // Protects other streams, such as the server's settings, from every export.
  const { stream } = data;
  if (!isKeyledgerStream(stream)) {
    throw new ExportError(`Line ${line} is of the stream ${data.stream}, which does not belong to Keyledger`);
  }
  if (bytes > MAX_EVENT_BYTES && eventBytes(data) > MAX_EVENT_BYTES) {
    throw new ExportError(`The event of line ${line} is larger than ${MAX_EVENT_BYTES} bytes`);
  }
  return data;
}

/** Problems on one line. */
const oneLineProblems = (error: z.ZodError): string => z.prettifyError(error).replaceAll(/\s*\n\s*/g, ' ');

/** Size in bytes that MAX_EVENT_BYTES limits. */
export const eventBytes = ({ data, metadata }: { data: unknown; metadata: unknown }): number =>
  Buffer.byteLength(JSON.stringify(data)) + Buffer.byteLength(JSON.stringify(metadata));

/** Lines, each with its line feed. */
async function* splitLines(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      const rest = chunk.subarray(start, end + 1);
      yield parts.length > 0 ? Buffer.concat([...parts, rest]) : rest;
      parts = [];
      length = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > MAX_LINE_BYTES) throw new ExportError('This is not an export of a log: it contains an endless line');
  }
  if (length > 0) throw new ExportError('The export is truncated: its last line is incomplete');
}

/** Undefined if the line is not JSON. */
function parseJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString());
  } catch {
    return undefined;
  }
}
