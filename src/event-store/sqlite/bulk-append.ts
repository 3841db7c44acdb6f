import { type AppendRequest, type AppendResult, conflictError, type NewEvent } from '../event-store.js';
import { serializeEvent } from '../serialize-event.js';
import type { EncodedAppend, EncodedEvent } from './writer.js';

/** Characters of JSON after which a group is filled no further, so that it needs little memory. */
const MAX_BATCH_LENGTH = 4 * 1024 * 1024;

/**
 * Sends appends in groups, in the order given. While one group is on its way the next is made; it is
 * sent when that one is known to be done.
 * @param size appends that a group holds at most
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
  const done = async (some: readonly EncodedAppend[]) => {
    (await send(some)).forEach((result, i) => {
      if (!result.appended) throw conflictError((some[i] as EncodedAppend).stream, result.actualRevision);
    });
  };
  try {
    for await (const append of appends) {
      const encodeEvent = encodeAppend(append);
      batch.push(encodeEvent);
      for (const [, , data, metadata] of encodeEvent.events) length += data.length + metadata.length;
      if (batch.length < size && length < MAX_BATCH_LENGTH) continue;
      await sending;
      sending = done(batch);
      sending.catch(() => undefined);
      batch = [];
      length = 0;
    }
  } finally {
    await sending;
    await done(batch);
  }
}

/** @throws RangeError as append */
export function encodeAppend({ stream, events, expectedRevision: expected }: AppendRequest): EncodedAppend {
  if (events.length === 0) throw new RangeError('An append needs an event');
  return { stream, expectedRevision: expected, events: events.map(encodeEvent) };
}

function encodeEvent(event: NewEvent): EncodedEvent {
  const { data, metadata } = serializeEvent(event);
  return [event.id, event.type, data, metadata];
}
