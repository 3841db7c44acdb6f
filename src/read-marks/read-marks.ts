/** Maximum number of marks of a caller; the oldest are dropped first. */
export const MAX_MARKS = 50_000;

/**
 * The events that each caller has marked as read, by their numbers. Marks survive a restart, but nothing depends on
 * them: they may be lost.
 */
export interface ReadMarks {
  /** @param caller a hash that names the caller @throws Error the store is unavailable */
  mark(caller: string, eventNumbers: readonly number[]): Promise<void>;
  /** @throws Error the store is unavailable */
  unmark(caller: string, eventNumbers: readonly number[]): Promise<void>;
  /** All marks of a caller. @throws Error the store is unavailable */
  of(caller: string): Promise<ReadonlySet<number>>;
  /** Those of the events that the caller has marked. @throws Error the store is unavailable */
  among(caller: string, eventNumbers: readonly number[]): Promise<ReadonlySet<number>>;
  close(): Promise<void>;
}
