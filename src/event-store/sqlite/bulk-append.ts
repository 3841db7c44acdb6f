import { type AppendRequest, type AppendResult, conflictError, type NewEvent } from '../event-store.js';
import { serializeEvent } from '../serialize-event.js';
import type { EncodedAppend, EncodedEvent } from './writer.js';

/** Characters of JSON at which a batch is full, to bound its memory. */
const MAX_BATCH_LENGTH = 4 * 1024 * 1024;

/**
 * Sends appends in batches, in the order given; encodes the next batch while one is in flight.
 * @param size maximum number of appends in a batch
 * @throws KeyledgerError CONFLICT; what `send` and `appends` throw
 */
export async function appendInBatches(
  appends: AsyncIterable<AppendRequest>,
  size: number,
  send: (batch: readonly EncodedAppend[]) => Promise<readonly AppendResult[]>,
): Promise<void> {
  let batch: EncodedAppend[] = [];
  let length = 0;
  let sending = Promise.resolve();
  const sendBatch = async (appends: readonly EncodedAppend[]) => {
    (await send(appends)).forEach((result, i) => {
      if (!result.appended) throw conflictError((appends[i] as EncodedAppend).stream, result.actualRevision);
    });
  };
  try {
    for await (const append of appends) {
      const encoded = encodeAppend(append);
      batch.push(encoded);
      for (const [, , data, metadata] of encoded.events) length += data.length + metadata.length;
      if (batch.length < size && length < MAX_BATCH_LENGTH) continue;
      await sending;
      sending = sendBatch(batch);
      sending.catch(() => undefined);
      batch = [];
      length = 0;
    }
  } finally {
    await sending;
    await sendBatch(batch);
  }
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
