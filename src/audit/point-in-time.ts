import { z } from 'zod';
import { apiKeyIdOf } from '../domain/ai-api-key.js';
import { isAuditAccessStream } from '../domain/audit-access.js';
import { KeyledgerError } from '../domain/errors.js';
import { webhookIdOf } from '../domain/webhook.js';
import {
  type DecodedApiKeyEvent,
  decodeApiKeyEvent,
  decodeAuditAccess,
  decodeWebhookEvent,
  firstRecordedAt,
} from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { isPosition, type Position, parsePosition } from '../event-store/position.js';

/** A moment of the past: what had happened by a time, or what the log held up to a position. */
export type PointInTime = {
  /** Milliseconds since 1970: expiry is judged at it, and events count up to it where there is no position. */
  readonly time: number;
  readonly position?: Position | undefined;
  /** When the caller asked (milliseconds since 1970): a clock that was ahead dated the events that lie after it. */
  readonly askedAt?: number | undefined;
};

/** A moment this close to now is now (milliseconds): a caller reads its clock a little before it is answered. */
const NOW_MS = 5000;

const Time = z.iso.datetime({ offset: true });

/**
 * The moment that a text names: a time (RFC 3339 with its offset), or a position. The time of a position is
 * that of the event there.
 * @param now milliseconds since 1970: what lies after it is not known yet
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG, UNAVAILABLE
 */
export async function parsePointInTime(text: string, log: EventStore, now: number): Promise<PointInTime> {
  const time = parseTime(text);
  if (time === undefined) return pointInTimeAtPosition(text, log, now);
  if (time > now) throw invalid('The moment must not be in the future');
  return { time, askedAt: now };
}

/** Milliseconds since 1970 of a time that came from outside (RFC 3339 with its offset); undefined if it is none. */
export function parseTime(text: string): number | undefined {
  // In a query a bare + is a space, and no time holds one.
  const time = Time.safeParse(text.replace(/ (?=\d\d:\d\d$)/, '+').toUpperCase()).data;
  return time === undefined ? undefined : Date.parse(time);
}

/** The moment as it was understood: a time in UTC, or a position. */
export const formatPointInTime = ({ time, position }: PointInTime): string =>
  position ?? new Date(time).toISOString();

async function pointInTimeAtPosition(text: string, log: EventStore, now: number): Promise<PointInTime> {
  if (!isPosition(text)) throw invalid(POINT_IN_TIME_RULE);
  const position = parsePosition(text, log.logId);
  const recorded = await log.eventAt(position);
  if (recorded) return { time: Math.min(Date.parse(occurredAt(recorded)), now), position: recorded.position };
  if (await isBeginning(log, position)) return { time: 0, position };
  throw invalid('The log holds no event at this position');
}

const POINT_IN_TIME_RULE =
  'The moment must be a time with its zone, such as 2030-01-31T12:00:00Z, or a position that Keyledger gave';

const invalid = (message: string) => new KeyledgerError('INVALID_INPUT', { message });

/** When an event occurred; when it was recorded, if this release cannot tell. */
function occurredAt(recorded: RecordedEvent): string {
  const { stream, revision, recordedAt } = recorded;
  const event = isAuditAccessStream(stream)
    ? decodeAuditAccess(recorded)
    : (apiKeyIdOf(stream) && decodeApiKeyEvent(recorded, revision)) ||
      (webhookIdOf(stream) && decodeWebhookEvent(recorded, revision));
  return typeof event === 'object' ? event.occurredAt : recordedAt;
}

/** Does a position, at which there is no event, lie before the first one? */
async function isBeginning(log: EventStore, position: Position): Promise<boolean> {
  for await (const first of log.readAll()) return position < first.position;
  return position <= (await log.end());
}

/** An event of a key, decoded. */
export type ApiKeyEventAt = {
  readonly recorded: RecordedEvent;
  readonly event: ReturnType<typeof decodeApiKeyEvent>;
};

/**
 * Sorts out which of a key's events count at a moment. To be called with each of them, in order; each call gives those
 * that are now known to count.
 *
 * An event counts from the earlier of when it occurred, by the clock of its command, and when it was recorded, by that
 * of the log; and from when an event after it counts, because it came before that. What lies in the future was dated by
 * a clock that was ahead, and happened at an unknown time before now: it counts now, so that as of now is always what
 * is served now.
 */
export function eventsUpTo({
  time,
  position,
  askedAt = Number.POSITIVE_INFINITY,
}: PointInTime): (recorded: RecordedEvent) => readonly ApiKeyEventAt[] {
  let next = 0;
  let waiting: ApiKeyEventAt[] = [];
  const isNow = time > askedAt - NOW_MS;
  const counts = ({ recorded, event }: ApiKeyEventAt) => {
    if (position !== undefined) return recorded.position <= position;
    const at = Math.min(Date.parse(event.occurredAt), Date.parse(firstRecordedAt(recorded)));
    return at <= time || (isNow && at > askedAt);
  };
  return (recorded) => {
    waiting.push({ recorded, event: decodeApiKeyEvent(recorded, next) });
    next = recorded.revision + 1;
    if (!waiting.slice(-1).every(counts)) return [];
    const counted = waiting;
    waiting = [];
    return counted;
  };
}

/** Who caused an event; null if it cannot be read. */
export const actorOf = (event: ApiKeyEventAt['event']): DecodedApiKeyEvent['actor'] | null =>
  event.type === 'Unreadable' ? null : event.actor;
