import type { Era } from '../history.js';

/**
 * Each reader receives every event once and in order, and is refused only if the log no longer holds the event it was
 * at.
 */
export function checkFeed({ readings, events }: Era, isLast: boolean): string[] {
  const found: string[] = [];
  const placeOf = new Map(events.map(({ id }, place) => [id, place]));
  const resumeTokens = new Map(events.map(({ id, position }, place) => [`${position}.${id.slice(0, 8)}`, place]));
  const furthest = new Map<string, number>();
  for (const { reader, after, events: heard, error } of readings) {
    const say = (what: string) => found.push(`${reader}, from ${after ?? 'the first event'} on: ${what}`);
    const begin = after === undefined ? -1 : resumeTokens.get(after);
    if (error !== undefined) {
      if (error !== 'OTHER_LOG') say(`refused with ${error}`);
      else if (begin !== undefined) say('refused, though the log holds the event that it was at');
    }
    if (begin === undefined) {
      if (heard.length > 0) say('it heard something, though the event that it was at is gone');
      continue;
    }
    let place = begin;
    for (const { id } of heard) {
      place++;
      if (events[place]?.id === id) continue;
      const where = placeOf.get(id);
      say(
        `it heard ${id}, ${where === undefined ? 'which the log does not hold' : `place ${where},`} instead of place ${place}`,
      );
      break;
    }
    furthest.set(reader, place);
  }
  if (!isLast) return found;
  for (const [reader, place] of furthest) {
    if (place < events.length - 1)
      found.push(`${reader}: it did not hear of the last ${events.length - 1 - place} events`);
  }
  return found;
}
