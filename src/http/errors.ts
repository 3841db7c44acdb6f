import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { v4 as uuid } from 'uuid';
import { z } from 'zod';
import { ERRORS, type ErrorCode, KeyledgerError } from '../domain/errors.js';

/** Body of every error answer. */
export const ErrorEnvelope = z
  .object({
    success: z.literal(false),
    message: z.string(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    requestId: z.string(),
    id: z.string().optional().describe('Id of the API key or webhook that the error is about'),
    reason: z.string().optional().describe('Why an API key with the correct secret is refused; see /verify'),
    building: z
      .object({ events: z.int(), of: z.int(), perSecond: z.int(), secondsLeft: z.int() })
      .optional()
      .describe('Of /health/ready: progress of building the projections from the log'),
  })
  .meta({ id: 'Error' });

const envelope = ({ code, message, details }: KeyledgerError, requestId: string) => ({
  success: false as const,
  message,
  code,
  requestId,
  ...details,
});

const RETRY_AFTER_SECONDS = 1;

/** Fastify's error handler, which sends every error of a request. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const known = toKeyledgerError(error, request);
  if (known.code === 'INTERNAL') request.log.error({ requestId: request.id, err: error }, 'request failed');
  else if (known.status === 503 && !known.expected) {
    request.log.warn({ requestId: request.id, err: reasonOf(known) }, 'request not served');
  }
  if (known.status === 503) reply.header('retry-after', RETRY_AFTER_SECONDS);
  if (known.status === 401) {
    const reason = request.headers.authorization === undefined ? '' : ', error="invalid_token"';
    reply.header('www-authenticate', `Bearer realm="keyledger"${reason}`);
  }
  return reply
    .code(known.status)
    .type('application/json')
    .send(JSON.stringify(envelope(known, request.id)));
}

/** The stack is worth logging only if the failure is unexpected. */
function reasonOf(error: KeyledgerError): object {
  const { message, cause } = error;
  if (cause === undefined) return { message };
  const { expected, message: why } = cause as { expected?: boolean; message?: string };
  return expected ? { message: `${message} (${why})` } : error;
}

const FASTIFY_ERRORS: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'UNSUPPORTED_MEDIA_TYPE',
};

function toKeyledgerError(error: unknown, request: FastifyRequest): KeyledgerError {
  if (error instanceof KeyledgerError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const problems = error.validation.map(({ instancePath, message }) =>
      [instancePath.slice(1).replaceAll('/', '.') || error.validationContext, message].join(': '),
    );
    return new KeyledgerError('INVALID_INPUT', { message: [...new Set(problems)].join('; ') });
  }
  const { code = '', statusCode = 500, message } = error as FastifyError;
  const mapped = FASTIFY_ERRORS[code];
  if (mapped) return new KeyledgerError(mapped, { cause: error, message: messageOf(mapped, request) });
  if (statusCode >= 400 && statusCode < 500) return new KeyledgerError('INVALID_INPUT', { message });
  const { failure } = request.routeOptions?.config ?? {};
  return new KeyledgerError('INTERNAL', failure ? { message: failure } : {});
}

function messageOf(code: ErrorCode, { routeOptions }: FastifyRequest): string | undefined {
  const { bodyLimit } = routeOptions;
  return code === 'BODY_TOO_LARGE' && bodyLimit ? `The request body is larger than ${bodyLimit / 1024} KiB` : undefined;
}

/** Answers an error that Node finds before there is a request, in the envelope too. */
export function sendClientError(this: FastifyInstance, error: NodeJS.ErrnoException, socket: Socket): void {
  const isAnswering = this.connections.isAnswering(socket);
  // Bytes after the last request are ignored (RFC 9112, section 9.6).
  if (isAnswering && error.code === 'HPE_CLOSED_CONNECTION') return;
  // The client would take this for the answer to an earlier request, or find it in the middle of one.
  if (isAnswering || error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const requestId = uuid();
  const known =
    clientErrors[error.code ?? ''] ?? new KeyledgerError('INVALID_INPUT', { message: 'The request is not valid HTTP' });
  const body = JSON.stringify(envelope(known, requestId));
  socket.end(
    [
      `HTTP/1.1 ${known.status} ${STATUS_CODES[known.status]}`,
      'Connection: close',
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      `X-Request-Id: ${requestId}`,
      '',
      body,
    ].join('\r\n'),
  );
}

/** Answers an Expect header other than 100-continue (RFC 9110, section 10.1.1). */
export function sendExpectationFailed(_: IncomingMessage, response: ServerResponse): void {
  const requestId = uuid();
  const known = new KeyledgerError('EXPECTATION_FAILED');
  response.statusCode = known.status;
  response.setHeader('content-type', 'application/json');
  response.setHeader('x-request-id', requestId);
  response.end(JSON.stringify(envelope(known, requestId)));
}

const clientErrors: Readonly<Record<string, KeyledgerError>> = {
  HPE_HEADER_OVERFLOW: new KeyledgerError('HEADERS_TOO_LARGE'),
  ERR_HTTP_REQUEST_TIMEOUT: new KeyledgerError('TIMEOUT'),
};
