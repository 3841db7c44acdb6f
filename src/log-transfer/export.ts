import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { RecordedEvent } from '../event-store/event-store.js';

/**
 * Export of a log: NDJSON in UTF-8, each line ended by a line feed. The first line is a header, the last one a trailer
 * with the number of events and the SHA-256 (hex) of every byte before it, and each line between is an event, in log
 * order. It contains all that the log contains, including sealed and hashed secrets.
 */
export const FORMAT = 'keyledger-log';
export const FORMAT_VERSION = 1;

export const Header = z.object({
  format: z.literal(FORMAT),
  version: z.literal(FORMAT_VERSION),
  /** Id of the exported log. */
  logId: z.string(),
  /** Bounds of the export, each a position or a time; `from` is null at the log's first event. */
  from: z.string().nullable(),
  to: z.string(),
  /** The only exported repository; null for all. */
  repo: z.string().nullable(),
  exportedAt: z.string(),
});
export type Header = z.infer<typeof Header>;

/** Any JSON value. */
const Json = z.unknown().refine((value) => value !== undefined, 'is missing');

/** Position and time of recording are those of the exported log. */
export const ExportedEvent = z.object({
  id: z.guid(),
  stream: z.string(),
  revision: z.int().min(0),
  type: z.string().min(1),
  data: Json,
  metadata: Json,
  recordedAt: z.iso.datetime({ precision: 3 }),
  position: z.string(),
});

export type ExportedEvent = z.infer<typeof ExportedEvent>;

export const Trailer = z.strictObject({ events: z.int().min(0), sha256: z.string() });

/** Approximate characters in a chunk of lines. */
const CHUNK_LENGTH = 64 * 1024;

/** Lines of an export, without its trailer. */
export async function* exportLines(header: Header, events: AsyncIterable<RecordedEvent>): AsyncIterable<string> {
  yield `${JSON.stringify(header)}\n`;
  for await (const { id, stream, revision, type, data, metadata, recordedAt, position } of events) {
    yield `${JSON.stringify({ id, stream, revision, type, data, metadata, recordedAt, position })}\n`;
  }
}

/** Bytes of an export: the lines in larger chunks, followed by the trailer. */
export async function* withTrailer(lines: AsyncIterable<string>): AsyncIterable<Buffer> {
  const hash = createHash('sha256');
  let events = -1;
  const counted = async function* () {
    for await (const line of lines) {
      events++;
      yield line;
    }
  };
  for await (const chunk of inChunks(counted())) {
    hash.update(chunk);
    yield chunk;
  }
  yield Buffer.from(`${JSON.stringify({ events, sha256: hash.digest('hex') })}\n`);
}

/** Joins lines into chunks large enough to be worth a write. */
export async function* inChunks(lines: AsyncIterable<string>): AsyncIterable<Buffer> {
  let chunk = '';
  for await (const line of lines) {
    chunk += line;
    if (chunk.length < CHUNK_LENGTH) continue;
    yield Buffer.from(chunk);
    chunk = '';
  }
  if (chunk !== '') yield Buffer.from(chunk);
}
