import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import type { Config } from './config.js';
import { grantsFromClaim } from './domain/authorization.js';
import { createApp, createMetricsApp, type HttpSettings } from './http/app.js';
import { type Listening, listen } from './http/listen.js';
import { createMetrics, observe } from './http/metrics.js';
import { LastUsedTracker } from './last-used/last-used-tracker.js';
import { openLastUsedStore } from './last-used/open.js';
import type { LogOutput } from './log-output.js';
import { buildInProcess } from './projections/local/build-in-process.js';
import { localLists } from './projections/local/lists.js';
import { openReadModel } from './projections/open.js';
import { Projector } from './projections/projector.js';
import { Queries } from './projections/queries.js';
import { openReadMarks } from './read-marks/open.js';
import { KeySet } from './security/key-set.js';
import { tokenVerifier } from './security/tokens.js';
import { WebhookDispatcher } from './subscribers/webhooks/dispatcher.js';
import { openDeliveryStore } from './subscribers/webhooks/open.js';
import { WebhookSender } from './subscribers/webhooks/sender.js';
import { openLogOrWait } from './wait-for-log.js';

export type Service = {
  readonly url: string;
  /** Undefined if /metrics has no port of its own. */
  readonly metricsUrl: string | undefined;
  stop(): Promise<void>;
};

/**
 * The composition root: config -> log -> projector -> HTTP.
 * @param output where log lines go
 * @param onFatal called if the service cannot continue; it has logged why
 * @throws Error the log cannot be opened, or the address is in use
 */
export async function startService(config: Config, output: LogOutput, onFatal: () => void): Promise<Service> {
  const logger = makeLogger(config, output);
  const clock = Date.now;
  const metrics = createMetrics();

  const logFailed = (error: Error) => {
    logger.fatal({ err: error }, 'The log has failed');
    onFatal();
  };
  const settings = httpSettings(config);
  const log = await openLogOrWait(config, { settings, metrics, logger }, logFailed);
  const readModel = openReadModel(config.READ_MODEL_URL, config.REDIS_PREFIX, logger);
  const projector = new Projector({
    log,
    folder: config.DATA_DIR,
    readModel,
    buildFile: buildInProcess(config.EVENT_STORE_URL, config.EVENT_STORE_PREFIX),
    logger,
    clock,
    onLogReplaced: logFailed,
  });
  const lists = readModel ?? localLists(() => projector.store);
  const queries = new Queries(projector, lists, clock, config.VERIFY_MAX_STALENESS);
  const lastUsedFile = join(config.DATA_DIR, 'usage.db');
  const lastUsedTracker = new LastUsedTracker(
    openLastUsedStore(config.READ_MODEL_URL, lastUsedFile, config.REDIS_PREFIX, logger),
    logger,
  );
  const readMarks = openReadMarks(
    config.READ_MODEL_URL,
    join(config.DATA_DIR, 'read-marks.db'),
    config.REDIS_PREFIX,
    logger,
  );
  const deliveriesFile = join(config.DATA_DIR, 'deliveries.db');
  const webhookDispatcher = new WebhookDispatcher(
    {
      log,
      projector,
      clock,
      keyring: config.keyring,
      store: openDeliveryStore(config.READ_MODEL_URL, deliveriesFile, config.REDIS_PREFIX, log.logId, logger),
      sender: new WebhookSender(config.WEBHOOK_ALLOWED_NETWORKS),
      retryMs: config.WEBHOOK_RETRY_SECONDS * 1000,
      onAppend: (outcome) => metrics.appends.inc({ outcome }),
      onAttempt: ({ status }) => metrics.webhookCalls.inc({ status: status ?? 'none' }),
    },
    logger,
  );
  projector.start();
  webhookDispatcher.start();
  const { key, ...tokens } = config.tokens;
  const keySet = key instanceof URL ? new KeySet(key, config.JWKS_MAX_AGE, logger) : undefined;
  keySet?.start();
  observe(metrics, projector, webhookDispatcher, output, keySet);

  const app = await createApp({
    log,
    projector,
    webhookDispatcher,
    queries,
    lastUsedTracker,
    readMarks,
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
    settings,
  });
  let listening: Listening[] = [];
  const stop = async () => {
    // Both may wait for other services, so they stop concurrently.
    await Promise.all([...listening.map((server) => server.close()), webhookDispatcher.stop()]);
    keySet?.stop();
    await projector.stop();
    await lastUsedTracker.stop();
    await readMarks.close();
    await readModel?.close();
    await log.close();
  };
  try {
    const main = await listen(app, config, 'PORT');
    listening = [main];
    if (config.METRICS_PORT === undefined) return { url: main.url, metricsUrl: undefined, stop };
    const metricsApp = await createMetricsApp({ metrics, logger, settings });
    const metricsListening = await listen(metricsApp, config, 'METRICS_PORT');
    listening = [main, metricsListening];
    return { url: main.url, metricsUrl: `${metricsListening.url}/metrics`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function makeLogger({ LOG_LEVEL }: Config, output: LogOutput): Logger {
  const redact = ['authorization', 'secret', 'key', '*.authorization', '*.secret', '*.key', 'req.headers', 'headers'];
  return pino({ level: LOG_LEVEL, redact }, output);
}

const httpSettings = (config: Config): HttpSettings => ({
  requestTimeoutMs: config.REQUEST_TIMEOUT * 1000,
  rateLimit: config.RATE_LIMIT,
  corsOrigins: config.CORS_ORIGIN,
  trustProxy: config.TRUST_PROXY,
  serveMetrics: config.METRICS_PORT === undefined,
  verifyForward: config.VERIFY_FORWARD,
  webhookNetworks: config.WEBHOOK_ALLOWED_NETWORKS,
});
