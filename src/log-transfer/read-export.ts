import { createHash, type Hash } from 'node:crypto';
import { z } from 'zod';
import { isApiKeyStream } from '../domain/ai-api-key.js';
import { isAuditAccessStream } from '../domain/audit-access.js';
import { webhookIdOf } from '../domain/webhook.js';
import { MAX_EVENT_BYTES } from '../event-store/event-store.js';
import { countOf } from '../quantity.js';
import { ExportedEvent, FORMAT, Header, Trailer, VERSION } from './export.js';

/** Bytes of a line; an event of MAX_EVENT_BYTES with its names around it is far shorter. */
const MAX_LINE_BYTES = 2 * MAX_EVENT_BYTES;
const LINE_FEED = 0x0a;

/** Why a file is no export that could be imported. */
export class ExportError extends Error {}

/** An export while it is read. */
export type Export = {
  readonly header: Header;
  /**
   * Throws at the first line that is wrong, and behind the last event if the export is not whole. To be
   * read once, to its end or with `return`.
   * @throws ExportError
   */
  readonly events: AsyncGenerator<ExportedEvent>;
};

/**
 * Reads an export in constant memory.
 * @param bytes the NDJSON, unpacked
 * @throws ExportError this is none, or of a later release
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
 * Reads an export to its end, and so finds out whether it is whole and unchanged.
 * @param onEvent told of each event
 * @throws ExportError what is wrong with it
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
    throw new ExportError('This is no export of a log: its first line is not the header of one');
  }
  if (json.version !== VERSION) {
    throw new ExportError(
      `This export has format version ${JSON.stringify(json.version)}, and this release knows ${VERSION}: take the release that made it`,
    );
  }
  const header = Header.safeParse(json);
  if (!header.success) throw new ExportError(`The header is wrong: ${oneLineProblems(header.error)}`);
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
          throw new ExportError('The export was changed: its SHA-256 is not that of its last line');
        }
        if (trailer.events !== events) {
          throw new ExportError(
            `The export holds ${countOf(events, 'events')}, and its last line says ${trailer.events}`,
          );
        }
        if (await hasMore(lines))
          throw new ExportError(`Something follows behind the end of the export, line ${events + 3}`);
        return;
      }
      events++;
      hash.update(line);
      yield parseEvent(json, events + 1, line.length);
    }
    throw new ExportError(
      `The export is cut off behind ${countOf(events, 'events')}: its last line is missing`,
    );
  } finally {
    await lines.return(undefined);
  }
}

/** A line, or what is no whole line. @throws the bytes cannot be read */
async function hasMore(lines: AsyncGenerator<Buffer>): Promise<boolean> {
  try {
    return !(await lines.next()).done;
  } catch (error) {
    if (error instanceof ExportError) return true;
    throw error;
  }
}

/** Told before it is parsed: to find out that an event is no trailer takes longer than all else. */
const isEvent = (json: unknown): boolean => Object.hasOwn(Object(json), 'stream');

function parseEvent(json: unknown, line: number, bytes: number): ExportedEvent {
  const { success, data, error } = ExportedEvent.safeParse(json);
  if (!success) {
    throw new ExportError(
      `Line ${line} is no event: ${json === undefined ? 'no JSON' : oneLineProblems(error)}`,
    );
  }
  // Whoever made the export, nothing is written to streams that are not of this kind, such as settings of the server.
  const { stream } = data;
  if (!isApiKeyStream(stream) && !isAuditAccessStream(stream) && webhookIdOf(stream) === undefined) {
    throw new ExportError(`Line ${line} is of the stream ${data.stream}, which is none of Keyledger's`);
  }
  if (bytes > MAX_EVENT_BYTES && bytesOf(data) > MAX_EVENT_BYTES) {
    throw new ExportError(`The event of line ${line} is larger than ${MAX_EVENT_BYTES} bytes`);
  }
  return data;
}

/** On one line. */
const oneLineProblems = (error: z.ZodError): string => z.prettifyError(error).replaceAll(/\s*\n\s*/g, ' ');

/** What MAX_EVENT_BYTES is a limit of. */
export const bytesOf = ({ data, metadata }: { data: unknown; metadata: unknown }): number =>
  Buffer.byteLength(JSON.stringify(data)) + Buffer.byteLength(JSON.stringify(metadata));

/** The lines, each with its line feed. */
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
    if (length > MAX_LINE_BYTES)
      throw new ExportError('This is no export of a log: it holds a line without an end');
  }
  if (length > 0) throw new ExportError('The export is cut off: its last line has no end');
}

/** Undefined if it is no JSON. */
function parseJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString());
  } catch {
    return undefined;
  }
}
