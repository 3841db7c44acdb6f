export type AiType = 'OPENAI' | 'GOOGLE' | 'ANTHROPIC' | 'AWS' | 'OTHER';

/** `unavailable`: the service cannot read a part of its history; it is never valid, but can be deleted. */
export type ApiKeyStatus = 'active' | 'suspended' | 'expired' | 'deleted' | 'unavailable';

export type ClientOptions = {
  /** URL of the service, such as `https://keys.example`; it may have a path. */
  readonly baseUrl: string;
  /**
   * A bearer token, or a function that returns one. The client calls the function before every attempt, so that no
   * attempt sends a token that has expired meanwhile. All tokens of a client must be of one issuer and subject: the
   * service keeps the Idempotency-Keys of each caller apart. An error of the function ends the call.
   */
  readonly token: string | (() => string | Promise<string>);
  /** Attempts of a call, including the first, from 1. Default: 4 */
  readonly attempts?: number | undefined;
  /** Timeout of one attempt, including the token and the whole answer (milliseconds). Default: 10 000 */
  readonly timeoutMs?: number | undefined;
};

export type CallOptions = {
  /** Ends the call at once, also while it waits for its next attempt; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
};

export type CreateOptions = CallOptions & {
  /**
   * 1 to 255 printable ASCII characters. All calls with the same key create one API key, in this process or another,
   * and get the same answer for 15 minutes. Default: a new one for each call
   */
  readonly idempotencyKey?: string | undefined;
};

export type RotateOptions = CallOptions & {
  /** As for a creation: all calls with the same key rotate an API key once. */
  readonly idempotencyKey?: string | undefined;
};

export type ReadOptions = CallOptions & {
  /** `position` of a change that the answer must include. */
  readonly minPosition?: string | undefined;
};

export type GetOptions = ReadOptions & {
  /** Include deleted API keys. */
  readonly include?: 'deleted' | undefined;
  /** State as of this point in time: RFC 3339, a Date, or the position of a change. Requires a token of an auditor. */
  readonly asOf?: string | Date | undefined;
};

export type ListOptions = GetOptions & {
  readonly status?: ApiKeyStatus | undefined;
  readonly aiType?: AiType | undefined;
  /** 1 to 1000 API keys. Default: all of them in one answer */
  readonly limit?: number | undefined;
  /** `nextCursor` of the previous page; null or undefined: start with the newest. */
  readonly cursor?: string | null | undefined;
};

export type AuditOptions = CallOptions & {
  /** Events that occurred at this time (RFC 3339, or a Date) or later, or that follow this position. */
  readonly from?: string | Date | undefined;
  /** Events that occurred at this time or before, or up to and including this position. */
  readonly to?: string | Date | undefined;
  readonly types?: readonly string[] | undefined;
  /** Subject that caused the event. */
  readonly actor?: string | undefined;
  readonly apikeyId?: string | undefined;
  /** 1 to 1000. Default: 100 */
  readonly limit?: number | undefined;
  /** `nextCursor` of the previous page; null or undefined: start with the newest. */
  readonly cursor?: string | null | undefined;
};

export type EventsOptions = CallOptions & {
  /** `position` of an event, to resume right after it; `start`: from the first event. Default: only new events */
  readonly after?: string | 'start' | undefined;
  /** Only events of this repository. */
  readonly repo?: string | undefined;
  /** Only events of these types. Default: all but AuditAccessed, which reading the audit causes */
  readonly types?: readonly string[] | undefined;
};
