import { KeyledgerError } from '../domain/errors.js';
import type { EventStore, RecordedEvent } from './event-store.js';
import { type Position, parsePosition } from './position.js';

/**
 * Where a subscriber continues: `<position>.<first 8 digits of the event's id>`. The digits reveal a log that was
 * restored from an older copy and has another event at that position.
 */
export const resumeTokenOf = ({ position, id }: Pick<RecordedEvent, 'position' | 'id'>): string =>
  `${position}.${id.slice(0, 8)}`;

/**
 * The position in a resume token. Accepts a bare position, too, if the log reaches it.
 * @param end of the log
 * @throws KeyledgerError INVALID_INPUT it is neither; OTHER_LOG it is of another log, or of an event that this log does
 * not hold, because it was restored from an older copy; UNAVAILABLE
 */
export async function resolveResumeToken(log: EventStore, end: Position, text: string): Promise<Position> {
  const position = parsePosition(text, log.logId);
  if (position.length !== end.length || position > end) throw new KeyledgerError('OTHER_LOG');
  if (text === position) return position;
  const event = await log.eventAt(position);
  if (!event || resumeTokenOf(event) !== text) throw new KeyledgerError('OTHER_LOG');
  return position;
}
