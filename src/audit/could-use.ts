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
import { type ApiKeyEventAt, actorOf, eventsUpTo, type PointInTime } from './point-in-time.js';

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
export async function couldUse(
  log: EventStore,
  accessKey: string,
  pointInTime: PointInTime,
): Promise<CouldUse> {
  const apiKeyId = await findApiKeyId(log, accessKey);
  if (!apiKeyId) {
    return { couldUse: false, status: 'unknown', apiKeyId: null, repoId: null, expiresAt: null, event: null };
  }
  const eventsUntil = eventsUpTo(pointInTime);
  let state: ApiKeyState;
  let first: ApiKeyEventAt | undefined;
  let status: Status | undefined;
  let madeStatus: ApiKeyEventAt | undefined;
  let madeExpiry: ApiKeyEventAt | undefined;
  for await (const recorded of log.readStream(apiKeyStream(apiKeyId))) {
    first ??= { recorded, event: decodeApiKeyEvent(recorded, 0) };
    for (const one of eventsUntil(recorded)) {
      const after = evolveApiKey(state, one.event);
      if (after.expiresAt !== state?.expiresAt) madeExpiry = one;
      // Judged at the moment, as if nothing came after: so an expiry that was moved in time never ended it.
      if (statusAt(after, pointInTime.time) !== status) madeStatus = one;
      status = statusAt(after, pointInTime.time);
      state = after;
    }
  }
  const deciding = status === 'expired' ? madeExpiry : (madeStatus ?? first);
  return {
    couldUse: status === 'active',
    status: status ?? 'not created',
    apiKeyId,
    repoId: state?.repoId ?? first?.event.data.repoId ?? null,
    expiresAt: state?.expiresAt ?? null,
    event: deciding ? decidingEvent(deciding) : null,
  };
}

/** The key with an access key. It is looked for in what events say before it is known whether they can be read. */
async function findApiKeyId(log: EventStore, accessKey: string): Promise<string | undefined> {
  for await (const { stream, data } of log.readAll()) {
    if (!isApiKeyStream(stream)) continue;
    if ((data as { accessKey?: unknown } | null)?.accessKey === accessKey) return apiKeyIdOf(stream);
  }
  return undefined;
}

const decidingEvent = ({ recorded, event }: ApiKeyEventAt): DecidingEvent => ({
  type: recorded.type,
  position: recorded.position,
  eventId: recorded.id,
  at: event.occurredAt,
  actor: actorOf(event),
});
