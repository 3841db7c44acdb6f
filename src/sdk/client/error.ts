/**
 * Why a call failed. What the service says comes first; where it said nothing, or something else than
 * Keyledger's JSON answered, `code` is one of the client's own:
 *
 * - `NETWORK` (status 0): no answer; `cause` tells what fetch said
 * - `TIMEOUT` (status 0): no answer within the time limit of a try
 * - `REDIRECTED`: the service is at another address
 * - `BAD_ANSWER`: an answer of success that is none of Keyledger's
 * - `HTTP_<status>`: an answer of failure without a code, such as a proxy's page
 */
export class KeyledgerClientError extends Error {
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly requestId: string | null;
  /** The API key in question, where the answer names one: the one that an Idempotency-Key made. */
  readonly id: string | null;
  /** Of a creation or rotation: with it the call can be made again, later too, and is done once. */
  readonly idempotencyKey: string | null;
  /** How long the service asks to wait (milliseconds). */
  readonly retryAfterMs: number | null;

  constructor(status: number, code: string, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.name = 'KeyledgerClientError';
    this.status = status;
    this.code = code;
    this.requestId = details.requestId ?? null;
    this.id = details.id ?? null;
    this.idempotencyKey = details.idempotencyKey ?? null;
    this.retryAfterMs = details.retryAfterMs ?? null;
  }
}

type ErrorDetails = {
  readonly requestId?: string | null | undefined;
  readonly id?: string | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly retryAfterMs?: number | null;
  readonly cause?: unknown;
};
