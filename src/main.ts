import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import { type Config, ConfigError } from './config.js';
import { grantsFromClaim } from './domain/access.js';
import { openEventStore } from './event-store/open.js';
import { makeApp } from './http/app.js';
import { type Metrics, makeMetrics, observe } from './http/metrics.js';
import type { LogOutput } from './log-output.js';
import { openReadModel } from './projections/open.js';
import { Projector } from './projections/projector.js';
import { Reads } from './projections/reads.js';
import { KeySet } from './security/key-set.js';
import { tokenVerifier } from './security/tokens.js';
import { Deliveries } from './subscribers/deliveries.js';
import { openDeliveryStore } from './subscribers/open-deliveries.js';
import { Poster } from './subscribers/poster.js';
import { openUsageStore } from './usage/open.js';
import { Usage } from './usage/usage.js';

export type Service = {
  readonly url: string;
  /** Undefined if /metrics has no port of its own. */
  readonly metricsUrl: string | undefined;
  stop(): Promise<void>;
};

/** Connections that may wait to be accepted; the system allows no more. With fewer, a burst of them waits for seconds. */
const BACKLOG = 4096;
/** Requests under way get so long to finish when the service stops (milliseconds). */
const GRACE_MS = 8000;

/** When the service stops, the last log lines have this time to be written (milliseconds). */
const FLUSH_MS = 1000;

/**
 * The composition root: config -> log -> projector -> HTTP.
 * @param output where log lines go
 * @param onFatal called if the service cannot go on; it has logged why
 * @throws Error the log cannot be opened, or the address is taken
 */
export async function startService(config: Config, output: LogOutput, onFatal: () => void): Promise<Service> {
  const logger = makeLogger(config, output);
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
  const { key, ...tokens } = config.tokens;
  const keySet = key instanceof URL ? new KeySet(key, config.JWKS_MAX_AGE, logger) : undefined;
  keySet?.start();
  observe(metrics, projector, deliveries, output, keySet);

  const app = await makeApp({
    log,
    projector,
    deliveries,
    reads,
    usage,
    clock,
    keyring: config.keyring,
    verifyToken: tokenVerifier(
      { ...tokens, key: keySet ?? (key as Uint8Array) },
      grantsFromClaim(config.JWT_REPOS_CLAIM),
      clock,
    ),
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
    keySet?.stop();
    await projector.stop();
    await usage.stop();
    await readModel.close();
    await log.close();
    await output.end(FLUSH_MS);
  };
  try {
    if (metricsServer)
      await naming('METRICS_PORT', config, () =>
        once(metricsServer.listen(config.METRICS_PORT, config.HOST), 'listening'),
      );
    await naming('PORT', config, () =>
      app.listen({
        host: config.HOST,
        port: config.PORT,
        backlog: BACKLOG,
        listenTextResolver: () => 'listening',
      }),
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: urlOf(app.server),
    metricsUrl: metricsServer && `${urlOf(metricsServer)}/metrics`,
    stop,
  };
}

function urlOf(server: Server): string {
  const { address, port } = server.address() as AddressInfo;
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** @throws ConfigError which setting keeps the service from listening */
async function naming(
  port: 'PORT' | 'METRICS_PORT',
  { HOST, [port]: number }: Config,
  listen: () => Promise<unknown>,
): Promise<void> {
  try {
    await listen();
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    const setting = ['EADDRINUSE', 'EACCES'].includes(code) ? `${port}=${number}` : `HOST=${HOST}`;
    throw new ConfigError(`Cannot listen with ${setting}: ${message}`);
  }
}

function makeLogger({ LOG_LEVEL }: Config, output: LogOutput): Logger {
  const redact = [
    'authorization',
    'secret',
    'key',
    '*.authorization',
    '*.secret',
    '*.key',
    'req.headers',
    'headers',
  ];
  return pino({ level: LOG_LEVEL, redact }, output);
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
