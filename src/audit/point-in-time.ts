import { z } from 'zod';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import { type DecodedApiKeyEvent, decodeAny, decodeApiKeyEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { firstRecordedAt } from '../event-store/peek-event.js';
import { isPosition, type Position, parsePosition } from '../event-store/position.js';

/** A time or a position in the past: what had happened by then, or what the log held up to there. */
export type PointInTime = {
  /** Expiry is evaluated at this time; without a position, events count up to it. */
  readonly time: EpochMs;
  readonly position?: Position | undefined;
  /** Time of the request: later events were dated by a clock that was ahead. */
  readonly askedAt?: EpochMs | undefined;
};

/** Times this shortly before now count as now: a caller reads its clock before the service answers. */
const NOW_MS = 5000;

const Time = z.iso.datetime({ offset: true });

/**
 * Parses a time (RFC 3339 with its offset) or a position. The time of a position is that of its event.
 * @param now later times are not known yet
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG, UNAVAILABLE
 */
export async function parsePointInTime(text: string, log: EventStore, now: EpochMs): Promise<PointInTime> {
  const time = parseTime(text);
  if (time === undefined) return pointInTimeAtPosition(text, log, now);
  if (time > now) throw invalid('The point in time must not be in the future');
  return { time, askedAt: now };
}

/** Parses a time from outside (RFC 3339 with its offset); undefined if it is not a time. */
export function parseTime(text: string): EpochMs | undefined {
  // In a query string a bare + is a space, and no time contains one.
  const time = Time.safeParse(text.replace(/ (?=\d\d:\d\d$)/, '+').toUpperCase()).data;
  return time === undefined ? undefined : Date.parse(time);
}

/** Formats the parsed point in time: a time in UTC, or a position. */
export const formatPointInTime = ({ time, position }: PointInTime): string => position ?? new Date(time).toISOString();

async function pointInTimeAtPosition(text: string, log: EventStore, now: EpochMs): Promise<PointInTime> {
  if (!isPosition(text)) throw invalid(POINT_IN_TIME_RULE);
  const position = parsePosition(text, log.logId);
  const recorded = await log.eventAt(position);
  if (recorded) {
    const occurredAt = Date.parse(decodeAny(recorded).event.occurredAt);
    return { time: Math.min(occurredAt, now), position: recorded.position };
  }
  if (await isBeginning(log, position)) return { time: 0, position };
  throw invalid('The log holds no event at this position');
}

const POINT_IN_TIME_RULE =
  'The point in time must be a time with its zone, such as 2030-01-31T12:00:00Z, or a position from Keyledger';

const invalid = (message: string) => new KeyledgerError('INVALID_INPUT', { message });

/** Whether a position without an event is before the first event. */
async function isBeginning(log: EventStore, position: Position): Promise<boolean> {
  for await (const first of log.readAll()) return position < first.position;
  return position <= (await log.end());
}

/** A decoded event of a key. */
export type ApiKeyEventAt = {
  readonly recorded: RecordedEvent;
  readonly event: ReturnType<typeof decodeApiKeyEvent>;
};

/**
 * Decides which of a key's events count at a point in time. Call the returned function with each event, in order; each
 * call returns the events that are now known to count.
 *
 * An event counts from the earlier of two times: when it occurred, by the clock of its command, and when the log
 * recorded it; at the latest from when a later event of its stream counts. If a clock was ahead, both times may be
 * later than now: then the event counts now, so that `as of now` equals what the service serves.
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

/** Actor of an event; null if it is unreadable. */
export const actorOf = (event: ApiKeyEventAt['event']): DecodedApiKeyEvent['actor'] | null =>
  event.type === 'Unreadable' ? null : event.actor;
