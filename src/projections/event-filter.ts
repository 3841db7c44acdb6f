import type { EpochMs } from '../domain/time.js';
import type { Position } from '../event-store/position.js';

/** Stream and revision of an event. */
export type EventRef = { readonly stream: string; readonly revision: number };

/** A bound of a range of events, by position or by time. */
export type RangeBound = { readonly position: Position } | { readonly time: EpochMs };

/** Selects events; an undefined field selects all. */
export type EventFilter = {
  readonly types?: ReadonlySet<string> | undefined;
  /** Subject of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
  /** Events after this position, or that occurred at this time or later. */
  readonly from?: RangeBound | undefined;
  /** Events up to and including this position, or that occurred at this time or earlier. */
  readonly to?: RangeBound | undefined;
  /** Events before this position. */
  readonly before?: Position | undefined;
  /** Event numbers to leave out. */
  readonly except?: ReadonlySet<number> | undefined;
};

/** The number of an event: the first 52 bits of its id, which a copy of the log keeps. */
export const eventNumber = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 13), 16);
