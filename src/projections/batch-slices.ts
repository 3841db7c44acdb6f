import type { EventBatch } from '../event-store/event-store.js';
import { chunksOf } from '../grouping.js';

/** Events in one transaction, and so in one turn of the event loop: a few milliseconds. */
const COMMIT_EVENTS = 64;

/** The events of a batch in slices; the last one is as far as the batch. */
export function* slicesOf({ events, position, caughtUp }: EventBatch): Generator<EventBatch> {
  for (const slice of events.length > 0 ? chunksOf(events, COMMIT_EVENTS) : [[]]) {
    const last = slice.at(-1);
    if (last === events.at(-1)) yield { events: slice, position, caughtUp };
    else if (last) yield { events: slice, position: last.position, caughtUp: false };
  }
}
