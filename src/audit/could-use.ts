import {
  type ApiKeyState,
  apiKeyIdOf,
  apiKeyStream,
  evolveApiKey,
  isApiKeyStream,
  type Status,
  statusAt,
} from '../domain/ai-api-key.js';
import type { Actor } from '../domain/authorization.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { actorOf, countedUpTo, type KeyEvent, type Moment } from './point-in-time.js';

/** The event that decides. Actor is null if it cannot be read. */
export type DecidingEvent = {
  readonly type: string;
  readonly position: Position;
  readonly eventId: string;
  /** RFC 3339. */
  readonly at: string;
  readonly actor: Actor | null;
};

/** Could a key be used at a moment, and which event decides it? */
export type CouldUse = {
  readonly couldUse: boolean;
  /** `unknown`: no key ever had this access key. */
  readonly status: Status | 'not created' | 'unknown';
  readonly apiKeyId: string | null;
  readonly repoId: string | null;
  /** As it was at the moment. */
  readonly expiresAt: string | null;
  readonly event: DecidingEvent | null;
};

/**
 * Could the key with this access key be used, by whoever had its secret? What decides it is
 * - for an active key: the last event that made it usable, a creation, a resumption, or a change of its expiry
 *   without which it would have expired by then;
 * - for an expired one: the event that set the expiry;
 * - for one not yet created: its creation, which came later;
 * - else what suspended it, deleted it, or cannot be read.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function couldUse(log: EventStore, accessKey: string, moment: Moment): Promise<CouldUse> {
  const apiKeyId = await idOf(log, accessKey);
  if (!apiKeyId) {
    return { couldUse: false, status: 'unknown', apiKeyId: null, repoId: null, expiresAt: null, event: null };
  }
  const counted = countedUpTo(moment);
  let state: ApiKeyState;
  let first: KeyEvent | undefined;
  let status: Status | undefined;
  let madeStatus: KeyEvent | undefined;
  let madeExpiry: KeyEvent | undefined;
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    first ??= { recorded, event: decodeApiKeyEvent(recorded, 0) };
    for (const one of counted(recorded)) {
      const after = evolveApiKey(state, one.event);
      if (after.expiresAt !== state?.expiresAt) madeExpiry = one;
      // Judged at the moment, as if nothing came after: so an expiry that was moved in time never ended it.
      if (statusAt(after, moment.time) !== status) madeStatus = one;
      status = statusAt(after, moment.time);
      state = after;
    }
  }
  const decisive = status === 'expired' ? madeExpiry : (madeStatus ?? first);
  return {
    couldUse: status === 'active',
    status: status ?? 'not created',
    apiKeyId,
    repoId: state?.repoId ?? first?.event.data.repoId ?? null,
    expiresAt: state?.expiresAt ?? null,
    event: decisive ? told(decisive) : null,
  };
}

/** The key with an access key. It is looked for in what events say before it is known whether they can be read. */
async function idOf(log: EventStore, accessKey: string): Promise<string | undefined> {
  for await (const { stream, data } of log.readAll()) {
    if (!isApiKeyStream(stream)) continue;
    if ((data as { accessKey?: unknown } | null)?.accessKey === accessKey) return apiKeyIdOf(stream);
  }
  return undefined;
}

const told = ({ recorded, event }: KeyEvent): DecidingEvent => ({
  type: recorded.type,
  position: recorded.position,
  eventId: recorded.id,
  at: event.occurredAt,
  actor: actorOf(event),
});
