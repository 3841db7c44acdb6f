import { setMaxListeners } from 'node:events';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import { KeyledgerError } from '../domain/errors.js';
import type { Projector } from '../projections/projector.js';
import type { VerifyToken } from '../security/tokens.js';
import type { WebhookDispatcher } from '../subscribers/webhooks/dispatcher.js';
import { hardenedServer, type ServerSettings } from './hardened-server.js';
import { countRefusal, type Metrics, observeRequests } from './metrics.js';
import { apiPage, openApi, transformObject } from './openapi.js';
import { authenticate, authorise, rateLimitKey } from './plugins/auth.js';
import { shedLoad } from './plugins/load-shedding.js';
import { collectPaths, refuseOtherMethods } from './plugins/method-not-allowed.js';
import { refuseUnknownMembers } from './plugins/unknown-members.js';
import { apiKeyCommandRoutes } from './routes/api-keys/commands.js';
import { type ApiKeyQueryDependencies, apiKeyQueryRoutes } from './routes/api-keys/queries.js';
import { auditRoutes } from './routes/audit/audit.js';
import { type SystemEventDependencies, systemEventRoutes } from './routes/audit/system-events.js';
import { healthRoutes, type Unready } from './routes/health.js';
import { eventRoutes } from './routes/streams/events.js';
import { replicaRoutes } from './routes/streams/replica.js';
import { lastUsedRoutes } from './routes/verification/last-used.js';
import { revokeRoutes } from './routes/verification/revoke.js';
import { verifyRoutes } from './routes/verification/verify.js';
import { verifyForwardRoutes } from './routes/verification/verify-forward.js';
import { webhookCommandRoutes } from './routes/webhooks/commands.js';
import { webhookDeliveryRoutes } from './routes/webhooks/deliveries.js';
import { webhookQueryRoutes } from './routes/webhooks/queries.js';

export type HttpDependencies = ApiKeyQueryDependencies &
  SystemEventDependencies & {
    readonly projector: Projector;
    readonly webhookDispatcher: WebhookDispatcher;
    readonly verifyToken: VerifyToken;
    readonly metrics: Metrics;
    readonly logger: FastifyBaseLogger;
    readonly settings: HttpSettings;
  };

export type HttpSettings = ServerSettings & {
  /** Requests per minute and caller; 0: no limit. */
  readonly rateLimit: number;
  readonly corsOrigins: readonly string[];
  /** False if /metrics has its own port. */
  readonly serveMetrics: boolean;
  /** Does the server have GET /verify/forward, which needs no token? */
  readonly verifyForward: boolean;
  /**
   * Internal addresses and networks in which the service may call webhooks, also by http (WEBHOOK_ALLOWED_NETWORKS).
   */
  readonly webhookNetworks: readonly string[];
};

/** The HTTP server, not yet listening; hooks are registered in the order in which a request passes them. */
export async function createApp(dependencies: HttpDependencies): Promise<FastifyInstance> {
  const { settings, metrics, logger } = dependencies;
  const app = hardenedServer(logger, settings);
  app.decorateRequest('caller', undefined);
  const paths = collectPaths(app);
  await app.register(swagger, {
    openapi: openApi,
    transform: jsonSchemaTransform,
    transformObject,
  });
  refuseUnknownMembers(app);
  observeRequests(app, metrics);
  await app.register(verification(dependencies));
  await app.register(managementApi(dependencies, paths));
  return app;
}

/** The server of an instance that waits for its log, not yet listening. @param reason what it waits for, and why */
export async function createWaitingApp(
  { settings, metrics, logger }: Pick<HttpDependencies, 'settings' | 'metrics' | 'logger'>,
  reason: () => string,
): Promise<FastifyInstance> {
  const app = hardenedServer(logger, settings);
  const waiting = new KeyledgerError('UNAVAILABLE', {
    message: 'The log is unavailable; /health/ready says why',
  });
  app.addHook('onRequest', (request, _, done) => done(request.is404 ? waiting : undefined));
  if (settings.serveMetrics) serveMetrics(app, metrics);
  await app.register(healthRoutes(() => ({ reason: reason() })));
  return app;
}

/** The server of METRICS_PORT, not yet listening. */
export async function createMetricsApp({
  settings,
  metrics,
  logger,
}: Pick<HttpDependencies, 'settings' | 'metrics' | 'logger'>): Promise<FastifyInstance> {
  const app = hardenedServer(logger, settings);
  const paths = collectPaths(app);
  answerNotFound(app);
  serveMetrics(app, metrics);
  refuseOtherMethods(app, paths);
  return app;
}

/**
 * Verification runs only the hooks that it needs, because proxies call it for each of their requests. It never runs
 * CORS, which would answer a forwarded preflight with 204, and most proxies take that for valid.
 */
const verification =
  (dependencies: HttpDependencies) =>
  async (app: FastifyInstance): Promise<void> => {
    app.decorateRequest('quietLog', true);
    app.addHook('onRequest', noStore);
    // onSend, not onRequest: the body may arrive later, and staleness must belong to the answer.
    app.addHook('onSend', (_, reply, payload, done) => {
      reply.header('keyledger-staleness', dependencies.queries.verifyStaleness.toFixed(1));
      done(null, payload);
    });
    await app.register(async (withToken) => {
      withToken.addHook('onRequest', authenticate(dependencies.verifyToken, countRefusal(dependencies.metrics)));
      withToken.addHook('onRequest', (request, _, done) => {
        authorise(request);
        done();
      });
      await withToken.register(verifyRoutes(dependencies));
    });
    if (dependencies.settings.verifyForward) await app.register(verifyForwardRoutes(dependencies));
  };

const managementApi =
  (dependencies: HttpDependencies, paths: ReadonlySet<string>) =>
  async (app: FastifyInstance): Promise<void> => {
    const { settings, metrics, verifyToken, projector } = dependencies;
    const stopping = shutdownSignal(app);
    answerNotFound(app);
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
    await app.register(swaggerUi, apiPage);
    app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
    if (settings.serveMetrics) serveMetrics(app, metrics);
    await app.register(healthRoutes(() => unready(projector)));
    const onRefused = () => metrics.refused.inc();
    await app.register(async (api) => {
      api.addHook('onRequest', noStore);
      shedLoad(api, onRefused);
      api.addHook('onRequest', authenticate(verifyToken, countRefusal(metrics)));
      await limitRate(api, settings);
      api.addHook('preParsing', async (request) => authorise(request));
      await api.register(apiKeyCommandRoutes(dependencies));
      await api.register(apiKeyQueryRoutes(dependencies));
      await api.register(auditRoutes(dependencies));
      await api.register(systemEventRoutes(dependencies));
      await api.register(webhookCommandRoutes({ ...dependencies, webhookNetworks: settings.webhookNetworks }));
      await api.register(webhookQueryRoutes(dependencies));
      await api.register(webhookDeliveryRoutes(dependencies));
      await api.register(eventRoutes({ ...dependencies, stopping }));
      await api.register(replicaRoutes({ ...dependencies, stopping }));
      await api.register(lastUsedRoutes(dependencies));
    });
    await app.register(async (open) => {
      open.addHook('onRequest', noStore);
      shedLoad(open, onRefused);
      await limitRate(open, settings);
      await open.register(revokeRoutes(dependencies));
    });
    refuseOtherMethods(app, paths);
  };

/** Why the instance cannot take traffic; undefined if it can. */
function unready({ status, building }: Projector): Unready | undefined {
  return status.ready.ok ? undefined : { reason: status.ready.reason, building };
}

/** Aborts when the service stops, which ends the endless streams. */
function shutdownSignal(app: FastifyInstance): AbortSignal {
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

function answerNotFound(app: FastifyInstance): void {
  app.setNotFoundHandler(() => {
    throw new KeyledgerError('NOT_FOUND');
  });
}

function serveMetrics(app: FastifyInstance, { registry }: Metrics): void {
  app.get('/metrics', { schema: { hide: true } }, async (_, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}
