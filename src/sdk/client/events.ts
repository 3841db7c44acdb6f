/** The feed: one stream of events over as many connections as it takes. */
import { KeyledgerClientError } from './error.js';
import type { KeyledgerEvent } from './event-types.js';
import { followMessages } from './follow-messages.js';
import { query } from './paths.js';
import { rejectUnknown } from './reject-unknown.js';
import type { Open } from './transport.js';
import type { EventsOptions } from './types.js';

/** The service sends a heartbeat every 15 seconds: after more than two of them that did not come nobody is there. */
const SILENT_MS = 45_000;

/**
 * Every event, in order, each once: after a failure it connects again behind what it has handed over last. Nothing is
 * read before it is asked for.
 * @param silentMs for how long a connection may be silent while more is asked for
 * @throws KeyledgerClientError the service will not have it; the signal's reason; what the token function threw
 */
export async function* followEvents(
  open: Open,
  { after, repo, types, signal, ...others }: EventsOptions,
  silentMs = SILENT_MS,
): AsyncGenerator<KeyledgerEvent, void, void> {
  rejectUnknown(others);
  const pathFrom = (position: string | undefined) =>
    `/events${query({ after: position, repo, type: types?.join() })}`;
  for await (const { event, data } of followMessages(open, pathFrom, { after, signal, silentMs })) {
    if (event === 'message') yield eventOf(data);
  }
}

function eventOf(data: string): KeyledgerEvent {
  try {
    const event = JSON.parse(data) as KeyledgerEvent;
    if (typeof event.position === 'string') return event;
  } catch {
    // Said below.
  }
  throw new KeyledgerClientError(200, 'BAD_ANSWER', 'This is no event of Keyledger; is baseUrl right?');
}
