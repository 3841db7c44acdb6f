import { KeyledgerError } from '../domain/errors.js';
import type { EventStore, RecordedEvent } from './event-store.js';
import { type Position, parsePosition } from './position.js';

/**
 * Where a subscriber goes on: `<position>.<the first 8 digits of the id of the event there>`. A log that was restored
 * from an older copy may have another event at the same position: by the id that is told.
 */
export const resumeTokenOf = ({ position, id }: Pick<RecordedEvent, 'position' | 'id'>): string =>
  `${position}.${id.slice(0, 8)}`;

/**
 * The position that a bookmark names. A bare position is taken, too, if the log reaches as far.
 * @param end where the log ends
 * @throws KeyledgerError INVALID_INPUT if it is neither, OTHER_LOG if it is of another log, or of an event that this one
 * does not hold: it was restored from an older copy; UNAVAILABLE
 */
export async function resolveResumeToken(log: EventStore, end: Position, text: string): Promise<Position> {
  const position = parsePosition(text, log.logId);
  if (position.length !== end.length || position > end) throw new KeyledgerError('OTHER_LOG');
  if (text === position) return position;
  const event = await log.eventAt(position);
  if (!event || resumeTokenOf(event) !== text) throw new KeyledgerError('OTHER_LOG');
  return position;
}
