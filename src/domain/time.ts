/** Milliseconds since 1970-01-01T00:00:00Z, as `Date.now()` returns them. */
export type EpochMs = number;
