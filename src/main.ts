import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import type { Config } from './config.js';
import { grantsFromClaim } from './domain/access.js';
import { openEventStore } from './event-store/open.js';
import { makeApp } from './http/app.js';
import { type Metrics, makeMetrics, observe } from './http/metrics.js';
import { openReadModel } from './projections/open.js';
import { Projector } from './projections/projector.js';
import { Reads } from './projections/reads.js';
import { tokenVerifier } from './security/tokens.js';
import { Deliveries } from './subscribers/deliveries.js';
import { openDeliveryStore } from './subscribers/open-deliveries.js';
import { Poster } from './subscribers/poster.js';
import { openUsageStore } from './usage/open.js';
import { Usage } from './usage/usage.js';

export type Service = { readonly url: string; stop(): Promise<void> };

/** Connections that may wait to be accepted; the system allows no more. With fewer, a burst of them waits for seconds. */
const BACKLOG = 4096;
/** Requests under way get so long to finish when the service stops (milliseconds). */
const GRACE_MS = 8000;

/**
 * The composition root: config -> log -> projector -> HTTP.
 * @param onFatal called if the service cannot go on; it has logged why
 * @throws Error the log cannot be opened, or the address is taken
 */
export async function startService(config: Config, onFatal: () => void): Promise<Service> {
  const logger = makeLogger(config);
  const clock = Date.now;
  const metrics = makeMetrics();

  const logFailed = (error: Error) => {
    logger.fatal({ err: error }, 'The log has failed');
    onFatal();
  };
  const log = await openEventStore(config.EVENT_STORE_URL, logFailed, (warning) => logger.warn(warning));
  const readModel = openReadModel(config.READ_MODEL_URL, config.REDIS_PREFIX, logger);
  const projector = new Projector(log, readModel, logger, clock, logFailed);
  const reads = new Reads(projector, readModel, clock, config.VERIFY_MAX_STALENESS);
  const usageFile = join(config.DATA_DIR, 'usage.db');
  const usage = new Usage(
    openUsageStore(config.READ_MODEL_URL, usageFile, config.REDIS_PREFIX, logger),
    logger,
  );
  const cursors = join(config.DATA_DIR, 'deliveries.db');
  const deliveries = new Deliveries(
    {
      log,
      projector,
      clock,
      keyring: config.keyring,
      store: openDeliveryStore(config.READ_MODEL_URL, cursors, config.REDIS_PREFIX, log.logId, logger),
      poster: new Poster(config.WEBHOOK_ALLOWED_NETWORKS),
      retryMs: config.WEBHOOK_RETRY_SECONDS * 1000,
      onAppend: (outcome) => metrics.appends.inc({ outcome }),
      onAttempt: ({ status }) => metrics.webhookCalls.inc({ status: status ?? 'none' }),
    },
    logger,
  );
  projector.start();
  deliveries.start();
  observe(metrics, projector, deliveries);

  const app = await makeApp({
    log,
    projector,
    deliveries,
    reads,
    usage,
    clock,
    keyring: config.keyring,
    verifyToken: tokenVerifier(config.tokens, grantsFromClaim(config.JWT_REPOS_CLAIM), clock),
    onAppend: (outcome) => metrics.appends.inc({ outcome }),
    metrics,
    logger,
    settings: {
      requestTimeoutMs: config.REQUEST_TIMEOUT * 1000,
      rateLimit: config.RATE_LIMIT,
      corsOrigins: config.CORS_ORIGIN,
      trustProxy: config.TRUST_PROXY,
      serveMetrics: config.METRICS_PORT === undefined,
      verifyForward: config.VERIFY_FORWARD,
      httpWebhooks: config.WEBHOOK_ALLOWED_NETWORKS.length > 0,
    },
  });
  const metricsServer = config.METRICS_PORT === undefined ? undefined : serveMetrics(metrics);

  const stop = async () => {
    // Both may wait for answers of others.
    await Promise.all([finishRequests(app), deliveries.stop()]);
    metricsServer?.close();
    await projector.stop();
    await usage.stop();
    await readModel.close();
    await log.close();
    logger.flush();
  };
  try {
    if (metricsServer) await once(metricsServer.listen(config.METRICS_PORT, config.HOST), 'listening');
    await app.listen({
      host: config.HOST,
      port: config.PORT,
      backlog: BACKLOG,
      listenTextResolver: () => 'listening',
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const { address, port } = app.server.address() as AddressInfo;
  return { url: `http://${address.includes(':') ? `[${address}]` : address}:${port}`, stop };
}

function makeLogger({ LOG_LEVEL }: Config): Logger {
  return pino({
    level: LOG_LEVEL,
    redact: [
      'authorization',
      'secret',
      'key',
      '*.authorization',
      '*.secret',
      '*.key',
      'req.headers',
      'headers',
    ],
  });
}

function serveMetrics({ registry }: Metrics) {
  return createServer(async (_, response) => {
    const text = await registry.metrics();
    response.setHeader('content-type', registry.contentType).end(text);
  });
}

/** Takes no new connection, answers what is under way, and cuts off what does not end in time. */
async function finishRequests(app: FastifyInstance): Promise<void> {
  app.connections.closeIdle();
  const deadline = setTimeout(() => app.server.closeAllConnections(), GRACE_MS);
  await app.close();
  clearTimeout(deadline);
}
