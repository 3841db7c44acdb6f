/**
 * Every error that a caller can get: code -> [HTTP status, message]. Where the caller can do something, the message
 * says what.
 */
export const ERRORS = {
  INVALID_INPUT: [400, 'The request is invalid'],
  UNAUTHENTICATED: [401, 'A valid bearer token is required'],
  BAD_CREDENTIAL: [
    401,
    'This is not a valid API key: send key and secret as Basic, as Bearer key.secret, or as X-Api-Key and X-Api-Secret',
  ],
  FORBIDDEN: [403, 'Your token does not permit this in this repository'],
  KEY_REFUSED: [403, 'This API key may not be used here now'],
  NOT_FOUND: [404, 'This address does not exist; /docs lists those that do'],
  KEY_NOT_FOUND: [404, 'No such API key in this repository'],
  WEBHOOK_NOT_FOUND: [404, 'No such webhook in this repository'],
  METHOD_NOT_ALLOWED: [405, 'This address does not support this method; see the Allow header'],
  TOO_SLOW: [
    408,
    'The reader did not keep up with the stream; connect again with the last id as Last-Event-ID to miss nothing',
  ],
  TIMEOUT: [408, 'The request did not arrive in time'],
  CONFLICT: [409, 'Too many concurrent changes of the same resource; try again'],
  OTHER_LOG: [
    409,
    'This position belongs to another log, or to events that a restore or import removed; start again without it',
  ],
  IDEMPOTENCY_KEY_USED: [
    409,
    'This Idempotency-Key has returned the secret of the resource with this id, and the service does not return it again. Create another resource, or rotate this one, with a new Idempotency-Key',
  ],
  KEY_QUARANTINED: [
    409,
    'The history of this key holds an event that this release cannot read, so only DELETE can change it',
  ],
  WEBHOOK_QUARANTINED: [
    409,
    'The history of this webhook holds an event that this release cannot read, so only DELETE can change it',
  ],
  BODY_TOO_LARGE: [413, 'The request body is larger than 16 KiB'],
  UNSUPPORTED_MEDIA_TYPE: [415, 'Send the body as application/json'],
  EXPECTATION_FAILED: [417, 'The Expect header is not supported'],
  IDEMPOTENCY_KEY_REUSED: [422, 'This Idempotency-Key was used for another request; use a new one'],
  RATE_LIMITED: [429, 'Too many requests; wait for the seconds in Retry-After'],
  HEADERS_TOO_LARGE: [431, 'The request headers are too large'],
  INTERNAL: [500, 'Internal error; name the requestId when you report it'],
  UNAVAILABLE: [503, 'Not done: a component that this needs is unavailable; try again'],
  OUTCOME_UNKNOWN: [
    503,
    'It is unknown whether this was done completely or not at all; repeat it with the same Idempotency-Key',
  ],
  STARTING: [503, 'This instance is still reading the log; try again, or another instance'],
  PROJECTIONS_DAMAGED: [
    503,
    'The projections of this instance are damaged and are being built anew; try another instance',
  ],
  STALE: [503, 'Not verified: the staleness of this instance is above VERIFY_MAX_STALENESS; try another'],
  BEHIND: [503, 'This instance has not yet reached the position that its answer must include; try again'],
} as const satisfies Record<string, readonly [status: number, message: string]>;

export type ErrorCode = keyof typeof ERRORS;

/** An error of the table. `details` are added to the HTTP answer, so they never hold a secret. */
export class KeyledgerError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly details: Readonly<Record<string, unknown>>;
  /** An expected error is not logged as a warning. */
  readonly expected: boolean;

  constructor(
    code: ErrorCode,
    options: {
      message?: string | undefined;
      details?: Readonly<Record<string, unknown>>;
      cause?: unknown;
      expected?: boolean;
    } = {},
  ) {
    super(options.message ?? ERRORS[code][1], { cause: options.cause });
    this.name = 'KeyledgerError';
    this.code = code;
    this.status = ERRORS[code][0];
    this.details = options.details ?? {};
    this.expected = options.expected ?? false;
  }
}
