import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { IncomingMessage } from 'node:http';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import { KeyledgerError } from '../domain/errors.js';
import type { Projector } from '../projections/projector.js';
import type { VerifyToken } from '../security/tokens.js';
import type { Deliveries } from '../subscribers/deliveries.js';
import { collectAddresses, refuseOtherMethods } from './addresses.js';
import { authenticate, authorise, rateLimitKey } from './auth.js';
import { Connections } from './connections.js';
import { sendClientError, sendError, sendExpectationFailed } from './errors.js';
import { acceptJson, validateByZod } from './input.js';
import { countRefusal, type Metrics, observeRequests } from './metrics.js';
import { openApi, transformObject } from './openapi.js';
import { refuseOverload } from './overload.js';
import { type AiApiKeyDependencies, aiApiKeyRoutes } from './routes/ai-api-keys.js';
import { auditRoutes } from './routes/audit.js';
import { eventRoutes } from './routes/events.js';
import { healthRoutes } from './routes/health.js';
import { lifecycleRoutes } from './routes/lifecycle.js';
import { replicaRoutes } from './routes/replica.js';
import { revokeRoutes } from './routes/revoke.js';
import { systemEventRoutes } from './routes/system-events.js';
import { verifyRoutes } from './routes/verify.js';
import { verifyForwardRoutes } from './routes/verify-forward.js';
import { webhookDeliveryRoutes } from './routes/webhook-deliveries.js';
import { webhookLifecycleRoutes } from './routes/webhook-lifecycle.js';
import { webhookRoutes } from './routes/webhooks.js';

export type HttpDependencies = AiApiKeyDependencies & {
  readonly projector: Projector;
  readonly deliveries: Deliveries;
  readonly verifyToken: VerifyToken;
  readonly metrics: Metrics;
  readonly logger: FastifyBaseLogger;
  readonly settings: HttpSettings;
};

export type HttpSettings = {
  /** In so long a request must have arrived (milliseconds). */
  readonly requestTimeoutMs: number;
  /** Requests a minute and caller; 0 is off. */
  readonly rateLimit: number;
  readonly corsOrigins: readonly string[];
  /** What of X-Forwarded-* is believed: see https://fastify.dev/docs/latest/Reference/Server/#trustproxy */
  readonly trustProxy: boolean | string;
  /** False if /metrics has a port of its own. */
  readonly serveMetrics: boolean;
  /** Is there a GET /verify/forward, which needs no token? */
  readonly verifyForward: boolean;
  /** May webhooks be called over http, too? */
  readonly httpWebhooks: boolean;
};

const BODY_LIMIT = 16 * 1024;
/** So often is looked, within the time that a request may take, whether one is late. */
const CHECKS = 5;
/** For so many times as long a connection may be silent: a call may take its time, an answer that nobody reads not. */
const SILENCE = 4;
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** The HTTP server, not yet listening. Below, in the order of a request's life. */
export async function makeApp(dependencies: HttpDependencies): Promise<FastifyInstance> {
  const { settings, metrics } = dependencies;
  const app: FastifyInstance = fastify({
    loggerInstance: dependencies.logger,
    logController: new OneLineARequest(),
    genReqId: requestId,
    bodyLimit: BODY_LIMIT,
    requestTimeout: settings.requestTimeoutMs,
    connectionTimeout: settings.requestTimeoutMs * SILENCE,
    trustProxy: settings.trustProxy,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    http: {
      requireHostHeader: false,
      headersTimeout: settings.requestTimeoutMs,
      connectionsCheckingInterval: settings.requestTimeoutMs / CHECKS,
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
  // Their size is limited; by number Node would drop the rest without a word.
  app.server.maxHeadersCount = 0;

  app.setChildLoggerFactory((logger) => logger);
  app.decorateRequest('caller', undefined);
  const addresses = collectAddresses(app);
  await app.register(swagger, {
    openapi: openApi,
    transform: jsonSchemaTransform,
    transformObject,
  });
  app.addHook('onRequest', beginAnswer);
  observeRequests(app, metrics);
  await app.register(verification(dependencies));
  await app.register(everythingElse(dependencies, addresses));
  return app;
}

function beginAnswer(request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
  reply.header('x-request-id', request.id);
  const message = headerFault(request.raw);
  done(message === undefined ? undefined : new KeyledgerError('INVALID_INPUT', { message }));
}

/** RFC 9112, section 3.2. Of two tokens a proxy may look at the one and we at the other. */
function headerFault({ headers, rawHeaders, httpVersion }: IncomingMessage): string | undefined {
  if (headers.host === undefined && httpVersion === '1.1') return 'The Host header is missing';
  if (isThereTwice('host', rawHeaders)) return 'The Host header is there twice';
  if (isThereTwice('authorization', rawHeaders)) return 'The Authorization header is there twice';
  return undefined;
}

/** @param rawHeaders names and values in turn */
function isThereTwice(name: string, rawHeaders: readonly string[]): boolean {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const given = rawHeaders[i] ?? '';
    if (given.length === name.length && given.toLowerCase() === name) count++;
  }
  return count > 1;
}

/**
 * Verification has no more around it than it needs: proxies ask about each of their requests. Least of all
 * CORS: a preflight that a proxy hands on would get its 204, which most take for a yes.
 */
const verification =
  (dependencies: HttpDependencies) =>
  async (app: FastifyInstance): Promise<void> => {
    app.decorateRequest('isFrequent', true);
    app.addHook('onRequest', noStore);
    app.addHook('onRequest', (_, reply, done) => {
      reply.header('keyledger-staleness', dependencies.reads.verifyStaleness.toFixed(1));
      done();
    });
    await app.register(async (withToken) => {
      withToken.addHook(
        'onRequest',
        authenticate(dependencies.verifyToken, countRefusal(dependencies.metrics)),
      );
      withToken.addHook('onRequest', (request, _, done) => {
        authorise(request);
        done();
      });
      await withToken.register(verifyRoutes(dependencies));
    });
    if (dependencies.settings.verifyForward) await app.register(verifyForwardRoutes(dependencies));
  };

/** What answers everything but verification. */
const everythingElse =
  (dependencies: HttpDependencies, addresses: ReadonlySet<string>) =>
  async (app: FastifyInstance): Promise<void> => {
    const { settings, metrics, verifyToken, projector } = dependencies;
    const stopping = endOf(app);
    app.setNotFoundHandler(() => {
      throw new KeyledgerError('NOT_FOUND');
    });
    await app.register(helmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      },
    });
    if (settings.corsOrigins.length > 0) {
      await app.register(cors, {
        origin: [...settings.corsOrigins],
        methods: ['GET', 'POST', 'PUT', 'DELETE'],
        exposedHeaders: [
          'Keyledger-Position',
          'Keyledger-As-Of',
          'Keyledger-Staleness',
          'X-Request-Id',
          'Retry-After',
          'RateLimit-Limit',
          'RateLimit-Remaining',
          'RateLimit-Reset',
        ],
      });
    }
    await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true });
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
    if (settings.serveMetrics) {
      app.get('/metrics', { schema: { hide: true } }, async (_, reply) =>
        reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
      );
    }
    await app.register(healthRoutes(projector));
    const onRefused = () => metrics.refused.inc();
    await app.register(async (api) => {
      api.addHook('onRequest', noStore);
      refuseOverload(api, onRefused);
      api.addHook('onRequest', authenticate(verifyToken, countRefusal(metrics)));
      await limitRate(api, settings);
      api.addHook('preParsing', async (request) => authorise(request));
      await api.register(aiApiKeyRoutes(dependencies));
      await api.register(lifecycleRoutes(dependencies));
      await api.register(auditRoutes(dependencies));
      await api.register(systemEventRoutes(dependencies));
      await api.register(webhookRoutes({ ...dependencies, httpWebhooks: settings.httpWebhooks }));
      await api.register(webhookLifecycleRoutes(dependencies));
      await api.register(webhookDeliveryRoutes(dependencies));
      await api.register(eventRoutes({ ...dependencies, stopping }));
      await api.register(replicaRoutes({ ...dependencies, stopping }));
    });
    await app.register(async (open) => {
      open.addHook('onRequest', noStore);
      refuseOverload(open, onRefused);
      await limitRate(open, settings);
      await open.register(revokeRoutes(dependencies));
    });
    refuseOtherMethods(app, addresses);
  };

/** Aborted when the service stops: what has no end must not be waited for. */
function endOf(app: FastifyInstance): AbortSignal {
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal);
  app.addHook('preClose', async () => stopping.abort());
  return stopping.signal;
}

function noStore(_: FastifyRequest, reply: FastifyReply, done: () => void): void {
  reply.header('cache-control', 'no-store');
  done();
}

async function limitRate(api: FastifyInstance, settings: HttpSettings): Promise<void> {
  if (settings.rateLimit === 0) return;
  await api.register(rateLimit, {
    max: settings.rateLimit,
    timeWindow: '1 minute',
    keyGenerator: rateLimitKey,
    enableDraftSpec: true,
    errorResponseBuilder: () => new KeyledgerError('RATE_LIMITED'),
  });
}

/** One line a request; of those that come by the thousand, only to whom debugs. */
class OneLineARequest extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(_: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const { method, url, log, id: requestId, isFrequent } = request;
    const level = isFrequent ? 'debug' : 'info';
    const ms = Math.round(reply.elapsedTime * 10) / 10;
    log[level]({ requestId, method, url, status: reply.statusCode, ms }, 'answered');
  }
}

/** The caller's request id if it is one, else a new one. */
function requestId({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}
