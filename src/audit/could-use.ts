import { type ApiKeyState, apiKeyStream, evolveApiKey, type Status, statusAt } from '../domain/ai-api-key.js';
import type { Actor } from '../domain/authorization.js';
import { decodeApiKeyEvent } from '../event-store/codec.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { type ApiKeyEventAt, actorOf, eventsUpTo, type PointInTime } from './point-in-time.js';

/** The deciding event. Actor is null if the event is unreadable. */
export type DecidingEvent = {
  readonly type: string;
  readonly position: Position;
  readonly eventId: string;
  /** RFC 3339. */
  readonly at: string;
  readonly actor: Actor | null;
};

/** Whether a key could be used at a point in time, and the event that decides it. */
export type CouldUse = {
  readonly couldUse: boolean;
  /** `unknown`: no key ever had this access key. */
  readonly status: Status | 'not created' | 'unknown';
  readonly apiKeyId: string | null;
  readonly repoId: string | null;
  /** Expiry at the point in time: RFC 3339. */
  readonly expiresAt: string | null;
  readonly event: DecidingEvent | null;
};

/**
 * Determines whether a holder of the secret could have used the key with this access key. The deciding event is
 * - for an active key: the last event that made it usable, a creation, a resumption, or a change of its expiry without
 *   which it would have expired by then;
 * - for an expired one: the event that set the expiry;
 * - for one not yet created: its creation, which came later;
 * - otherwise the suspension, the deletion, or the unreadable event.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function couldUse(log: EventStore, accessKey: string, pointInTime: PointInTime): Promise<CouldUse> {
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
      // Evaluates each state at the point in time itself: an expiry that was moved before it passed never took effect.
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

/** Finds the key with an access key. Uses the raw data, because events may be unreadable. */
async function findApiKeyId(log: EventStore, accessKey: string): Promise<string | undefined> {
  for await (const { stream, data } of log.readAll()) {
    const apiKeyId = apiKeyIdOf(stream);
    const created = data as { accessKey?: unknown } | null;
    if (apiKeyId !== undefined && created?.accessKey === accessKey) return apiKeyId;
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
