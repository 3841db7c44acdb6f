/** Milliseconds since 1970-01-01T00:00:00Z, as of `Date.now()`. */
export type EpochMs = number;
