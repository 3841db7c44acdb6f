/** What a caller keeps at most; the oldest marks are forgotten first. */
export const MAX_MARKS = 50_000;

/**
 * Which events each caller has marked as read, by the events' numbers. They are no truth: they survive a restart, and
 * may be lost.
 */
export interface ReadMarks {
  /** @param caller a hash that names the caller @throws Error the store is unavailable */
  mark(caller: string, eventNumbers: readonly number[]): Promise<void>;
  /** @throws Error the store is unavailable */
  unmark(caller: string, eventNumbers: readonly number[]): Promise<void>;
  /** All of a caller. @throws Error the store is unavailable */
  of(caller: string): Promise<ReadonlySet<number>>;
  /** Those of some events that the caller has marked. @throws Error the store is unavailable */
  among(caller: string, eventNumbers: readonly number[]): Promise<ReadonlySet<number>>;
  close(): Promise<void>;
}
