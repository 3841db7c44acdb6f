import type { AppendRequest, AppendResult, BulkAppendResult, NewEvent } from '../event-store.js';
import { serializeEvent } from '../serialize-event.js';
import type { EncodedAppend, EncodedEvent } from './writer.js';

/** Characters of JSON above which a batch takes no more appends, to limit its memory. */
const MAX_BATCH_LENGTH = 4 * 1024 * 1024;

type Conflict = Extract<BulkAppendResult, { appended: false }>;

/**
 * Sends appends in batches, in order. Fills the next batch while one is written, and sends it once that one is done.
 * @param size maximum number of appends in a batch
 * @throws what `send` and `appends` throw
 */
export async function appendInBatches(
  appends: AsyncIterable<AppendRequest>,
  size: number,
  send: (batch: readonly EncodedAppend[]) => Promise<readonly AppendResult[]>,
): Promise<BulkAppendResult> {
  let batch: EncodedAppend[] = [];
  let length = 0;
  let sending: Promise<Conflict | undefined> = Promise.resolve(undefined);
  try {
    for await (const append of appends) {
      const encoded = encodeAppend(append);
      batch.push(encoded);
      for (const [, , data, metadata] of encoded.events) length += data.length + metadata.length;
      if (batch.length < size && length < MAX_BATCH_LENGTH) continue;
      const conflict = await sending;
      if (conflict) return conflict;
      sending = sendBatch(batch, send);
      sending.catch(() => undefined);
      batch = [];
      length = 0;
    }
  } catch (error) {
    if (!(await sending)) await sendBatch(batch, send);
    throw error;
  }
  return (await sending) ?? (await sendBatch(batch, send)) ?? { appended: true };
}

/** @returns the first conflict */
async function sendBatch(
  batch: readonly EncodedAppend[],
  send: (batch: readonly EncodedAppend[]) => Promise<readonly AppendResult[]>,
): Promise<Conflict | undefined> {
  const results = await send(batch);
  for (const [i, result] of results.entries()) {
    if (!result.appended) return { ...result, stream: (batch[i] as EncodedAppend).stream };
  }
  return undefined;
}

/** @throws RangeError as append */
export function encodeAppend({ stream, events, expectedRevision }: AppendRequest): EncodedAppend {
  if (events.length === 0) throw new RangeError('An append needs an event');
  return { stream, expectedRevision, events: events.map(encodeEvent) };
}

function encodeEvent(event: NewEvent): EncodedEvent {
  const { data, metadata } = serializeEvent(event);
  return [event.id, event.type, data, metadata];
}
