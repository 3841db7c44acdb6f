import { jsonOf } from '../event-json.js';
import { type Append, type AppendResult, conflictOf, type NewEvent } from '../event-store.js';
import type { EncodedAppend, EncodedEvent } from './writer.js';

/** Characters of JSON after which a group is filled no further, so that it needs little memory. */
const GROUP_LENGTH = 4 * 1024 * 1024;

/**
 * Sends appends in groups, in the order given. While one group is on its way the next is made; it is
 * sent when that one is known to be done.
 * @param size appends that a group holds at most
 * @throws KeyledgerError CONFLICT; what `send` and `appends` throw
 */
export async function inGroups(
  appends: AsyncIterable<Append>,
  size: number,
  send: (group: readonly EncodedAppend[]) => Promise<readonly AppendResult[]>,
): Promise<void> {
  let group: EncodedAppend[] = [];
  let length = 0;
  let sending = Promise.resolve();
  const done = async (some: readonly EncodedAppend[]) => {
    (await send(some)).forEach((result, i) => {
      if (!result.appended) throw conflictOf((some[i] as EncodedAppend).stream, result.actual);
    });
  };
  try {
    for await (const append of appends) {
      const encoded = encodedAppend(append);
      group.push(encoded);
      for (const [, , data, metadata] of encoded.events) length += data.length + metadata.length;
      if (group.length < size && length < GROUP_LENGTH) continue;
      await sending;
      sending = done(group);
      sending.catch(() => undefined);
      group = [];
      length = 0;
    }
  } finally {
    await sending;
    await done(group);
  }
}

/** @throws RangeError as append */
export function encodedAppend({ stream, events, expected }: Append): EncodedAppend {
  if (events.length === 0) throw new RangeError('An append needs an event');
  return { stream, expected, events: events.map(encoded) };
}

function encoded(event: NewEvent): EncodedEvent {
  const { data, metadata } = jsonOf(event);
  return [event.id, event.type, data, metadata];
}
