import { MAX_EVENT_BYTES, type NewEvent } from './event-store.js';

/**
 * An event's data and metadata as the log keeps them.
 * @throws RangeError larger than MAX_EVENT_BYTES
 * @throws TypeError not JSON (a bigint, a cycle)
 */
export function serializeEvent({ data, metadata }: NewEvent): { data: string; metadata: string } {
  const json = { data: JSON.stringify(data), metadata: JSON.stringify(metadata) };
  const bytes = Buffer.byteLength(json.data) + Buffer.byteLength(json.metadata);
  if (bytes > MAX_EVENT_BYTES) {
    throw new RangeError(`An event of ${bytes} bytes is larger than the log's limit, ${MAX_EVENT_BYTES}`);
  }
  return json;
}
