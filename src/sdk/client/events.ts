/** The feed: one stream of events over any number of connections. */
import { KeyledgerClientError } from './error.js';
import type { KeyledgerEvent } from './event-types.js';
import { followMessages } from './follow-messages.js';
import type { EventsOptions } from './options.js';
import { query } from './paths.js';
import { rejectUnknown } from './reject-unknown.js';
import type { Open } from './transport.js';

/** The service sends a heartbeat every 15 seconds; more than two missing ones mean a dead connection (milliseconds). */
const SILENT_MS = 45_000;

/**
 * Yields every event once and in order: after a failure it reconnects after the last event that it has yielded. It
 * reads only on demand.
 * @param silentMs longest silence of a connection while the caller waits for more (milliseconds)
 * @throws KeyledgerClientError the service refuses the request; the signal's reason; the error of the token function
 */
export async function* followEvents(
  open: Open,
  { after, repo, types, signal, ...others }: EventsOptions,
  silentMs = SILENT_MS,
): AsyncGenerator<KeyledgerEvent, void, void> {
  rejectUnknown(others);
  const pathFrom = (position: string | undefined) => `/events${query({ after: position, repo, type: types?.join() })}`;
  for await (const { event, data } of followMessages(open, pathFrom, { after, signal, silentMs })) {
    if (event === 'message') yield eventOf(data);
  }
}

function eventOf(data: string): KeyledgerEvent {
  try {
    const event = JSON.parse(data) as KeyledgerEvent;
    if (typeof event.position === 'string') return event;
  } catch {
    // Reported below.
  }
  throw new KeyledgerClientError(200, 'BAD_ANSWER', 'This is not a Keyledger event; check baseUrl');
}
