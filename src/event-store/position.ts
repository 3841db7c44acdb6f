import { KeyledgerError } from '../domain/errors.js';

declare const brand: unique symbol;

/**
 * A place in one log: `<log id>:<place>`, the place in fixed-width hexadecimal, so that positions of one log sort as
 * text. Opaque to all but the adapters.
 */
export type Position = string & { readonly [brand]: true };

const SHAPE = /^([0-9a-f-]{36}:[0-9a-f]{16}(?:[0-9a-f]{16})?)(?:\.[0-9a-f]{8})?$/;
const ID_LENGTH = 36;

/** @param place fixed-width lower-case hexadecimal: 16 digits for one number, 32 for two */
export const makePosition = (logId: string, place: string): Position => `${logId}:${place}` as Position;

export const hex16 = (value: number | bigint): string => value.toString(16).padStart(16, '0');

/** True if the text has the form of a position, of any log, or of a resume token. */
export const isPosition = (text: string): boolean => SHAPE.test(text);

/**
 * Parses a position, or the position in a resume token, that a caller sent.
 * @throws KeyledgerError INVALID_INPUT it is neither; OTHER_LOG it is of another log
 */
export function parsePosition(text: string, logId: string): Position {
  const position = SHAPE.exec(text)?.[1];
  if (position === undefined) {
    throw new KeyledgerError('INVALID_INPUT', { message: 'This is not a position of Keyledger' });
  }
  if (!position.startsWith(`${logId}:`)) throw new KeyledgerError('OTHER_LOG');
  return position as Position;
}

/**
 * The fixed-width place of a position in this log.
 * @throws KeyledgerError OTHER_LOG
 */
export const placeIn = (position: Position, logId: string): string => placeOf(parsePosition(position, logId));

/** The fixed-width place of a position that is known to be of this log. */
export const placeOf = (position: Position): string => position.slice(ID_LENGTH + 1);

/**
 * Fraction of a log before a position, 0 to 1, accurate enough to estimate the remaining time. @param end of the log
 */
export const fractionBefore = (position: Position, end: Position): number => {
  return Math.min(1, positionNumbers(position)[0] / Math.max(1, positionNumbers(end)[0]));
};

/**
 * A position as two numbers, the more significant first; the second is 0 in a log that needs only one. Exact up to
 * 2^53, which no log reaches.
 */
export const positionNumbers = (position: Position): [high: number, low: number] => [
  Number.parseInt(position.slice(ID_LENGTH + 1, ID_LENGTH + 17), 16),
  Number.parseInt(position.slice(ID_LENGTH + 17) || '0', 16),
];

/** Inverse of positionNumbers, in the log of another position. */
export const positionFromNumbers = (other: Position, [high, low]: readonly [number, number]): Position => {
  const hasLow = other.length > ID_LENGTH + 17;
  return makePosition(other.slice(0, ID_LENGTH), hex16(high) + (hasLow ? hex16(low) : ''));
};
