import type { Position } from '../../event-store/position.js';

/** What a projections file is of, how far it is, and how much it holds. Record 0 of the table meta. */
export type Meta = {
  readonly logId: string;
  /** What the release that wrote it makes of each event, see foldVersion. */
  readonly foldVersion: string;
  /** The last event that it holds. */
  checkpoint: { position: Position; eventId: string } | null;
  /** Number of commits. */
  commits: number;
  /** The file itself, without its WAL, holds this commit and perhaps later ones. */
  inFile: number;
  /** A process has it open, or ended without closing it: then its last commits are in the WAL. */
  isOpen: boolean;
  /** Types of events, in the order in which they appeared. */
  types: string[];
  /** Number of events, by the number of their type. */
  eventsOfType: number[];
  events: number;
  foreignEvents: number;
  repositories: number;
  keys: number;
  /** Keys that have an access key: all whose creation this release can read. */
  accessKeys: number;
  quarantined: number;
  webhooks: number;
};

export const emptyMeta = (logId: string, foldVersion: string): Meta => ({
  logId,
  foldVersion,
  checkpoint: null,
  commits: 0,
  inFile: 0,
  isOpen: false,
  types: [],
  eventsOfType: [],
  events: 0,
  foreignEvents: 0,
  repositories: 0,
  keys: 0,
  accessKeys: 0,
  quarantined: 0,
  webhooks: 0,
});

/** The number of a type, a new one if it has none. */
export function typeNumber({ types }: Meta, type: string): number {
  const known = types.indexOf(type);
  return known < 0 ? types.push(type) - 1 : known;
}
