import { randomUUID } from 'node:crypto';
import { type IncomingMessage, METHODS } from 'node:http';
import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { KeyledgerError } from '../domain/errors.js';
import { Connections } from './connections.js';
import { sendClientError, sendError, sendExpectationFailed } from './errors.js';
import { AccessLog } from './plugins/access-log.js';
import { trustedProxies } from './plugins/client-address.js';
import { acceptJson, validateByZod } from './plugins/json-body.js';

export type ServerSettings = {
  /** A request must arrive within this time (milliseconds). */
  readonly requestTimeoutMs: number;
  /** Proxies whose X-Forwarded-* headers are trusted: all, none, or addresses and networks separated by commas. */
  readonly trustProxy: boolean | string;
};

const BODY_LIMIT = 16 * 1024;
/** Number of timeout checks per request timeout. */
const TIMEOUT_CHECKS = 5;
/**
 * A connection may be idle for this many request timeouts: the service may take time to answer, the caller not to read.
 */
const IDLE_TIMEOUT_FACTOR = 4;
/** RFC 9110, section 8.3.1. */
const MEDIA_TYPE = /^\s*[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+\s*(?:;|$)/;
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/**
 * A server without routes that answers every fault of a connection in the error envelope: garbage, headers without end,
 * late or oversized bodies, unknown methods.
 */
export function hardenedServer(
  loggerInstance: FastifyBaseLogger,
  { requestTimeoutMs, trustProxy }: ServerSettings,
): FastifyInstance {
  const app: FastifyInstance = fastify({
    loggerInstance,
    logController: new AccessLog(),
    genReqId: resolveRequestId,
    bodyLimit: BODY_LIMIT,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: requestTimeoutMs * IDLE_TIMEOUT_FACTOR,
    trustProxy: trustedProxies(trustProxy),
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    http: {
      requireHostHeader: false,
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs / TIMEOUT_CHECKS,
    },
    routerOptions: { maxParamLength: 4096 },
    clientErrorHandler: sendClientError,
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id);
      sendError(error, request, reply);
    },
  });
  app.setErrorHandler(sendError);
  app.setValidatorCompiler(validateByZod);
  app.setSerializerCompiler(() => JSON.stringify);
  acceptJson(app);
  app.decorate('connections', new Connections(app.server));
  app.server.on('checkExpectation', sendExpectationFailed);
  // 0: no limit of their number, beyond which Node would silently drop headers; their size is limited.
  app.server.maxHeadersCount = 0;
  acceptEveryMethod(app);
  app.setChildLoggerFactory((logger) => logger);
  app.addHook('onRequest', prepareRequest);
  return app;
}

/** Proxies verify with the method of the proxied request, which may be one of WebDAV; fastify would answer 404. */
function acceptEveryMethod(app: FastifyInstance): void {
  for (const method of METHODS) {
    // CONNECT never becomes a request, and fastify requires a Content-Type for QUERY.
    if (['CONNECT', 'QUERY'].includes(method) || app.supportedMethods.includes(method)) continue;
    app.addHttpMethod(method, { hasBody: true });
  }
}

function prepareRequest(request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  reply.header('x-request-id', request.id);
  const { raw } = request;
  // An empty body needs no type, and fastify would refuse an invalid type before it knows whether there is a body.
  const type = raw.headers['content-type'];
  if (type !== undefined && (raw.headers['content-length'] === '0' || !MEDIA_TYPE.test(type)))
    delete raw.headers['content-type'];
  const message = headerProblem(raw);
  done(message === undefined ? undefined : new KeyledgerError('INVALID_INPUT', { message }));
}

/** RFC 9112, section 3.2. Of two tokens, a proxy may check one and this service the other. */
function headerProblem({ headers, rawHeaders, httpVersion }: IncomingMessage): string | undefined {
  if (headers.host === undefined && httpVersion === '1.1') return 'The Host header is missing';
  if (isDuplicated('host', rawHeaders)) return 'The Host header is repeated';
  if (isDuplicated('authorization', rawHeaders)) return 'The Authorization header is repeated';
  return undefined;
}

/** @param rawHeaders alternating names and values */
function isDuplicated(name: string, rawHeaders: readonly string[]): boolean {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const header = rawHeaders[i] ?? '';
    if (header.length === name.length && header.toLowerCase() === name) count++;
  }
  return count > 1;
}

/** The caller's request id if it is valid, else a new one. */
function resolveRequestId({ headers }: IncomingMessage): string {
  const requested = headers['x-request-id'];
  return typeof requested === 'string' && REQUEST_ID.test(requested) ? requested : randomUUID();
}
