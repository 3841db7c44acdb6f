/**
 * Error of a call. `code` and `message` come from the service; without an answer, or with one that is not Keyledger's
 * JSON, `code` is one of the client's own:
 *
 * - `NETWORK` (status 0): no answer; `cause` is the error of fetch
 * - `TIMEOUT` (status 0): no answer within the timeout of an attempt
 * - `REDIRECTED`: the service redirects to another URL
 * - `BAD_ANSWER`: a successful answer that is not Keyledger's
 * - `HTTP_<status>`: a failure without a code, such as a proxy's page
 */
export class KeyledgerClientError extends Error {
  /** HTTP status; 0 if there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly requestId: string | null;
  /** Id of the API key that the error is about, if the answer names it. */
  readonly id: string | null;
  /** For a creation or rotation: repeating the call with this key, even later, carries it out only once. */
  readonly idempotencyKey: string | null;
  /** Milliseconds that the service asks to wait. */
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
