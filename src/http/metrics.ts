import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Projector } from '../projections/projector.js';
import type { KeySet } from '../security/key-set.js';
import type { TokenFault } from '../security/tokens.js';
import type { WebhookDispatcher } from '../subscribers/webhooks/dispatcher.js';

export type Metrics = ReturnType<typeof createMetrics>;

/** Every metric of the service. Labels are route patterns and codes, so their number is bounded. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    requests: new Histogram({
      name: 'keyledger_http_request_duration_seconds',
      help: 'Duration of answered requests in seconds',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
      registers,
    }),
    refused: new Counter({
      name: 'keyledger_refused_requests_total',
      help: 'Requests refused with 503 because too many were under way',
      registers,
    }),
    refusedTokens: new Counter({
      name: 'keyledger_refused_tokens_total',
      help: 'Bearer tokens refused with 401, by their fault',
      labelNames: ['reason'] as const,
      registers,
    }),
    webhookCalls: new Counter({
      name: 'keyledger_webhook_calls_total',
      help: 'Calls of webhooks by status of the answer; none: there was no answer',
      labelNames: ['status'] as const,
      registers,
    }),
    appends: new Counter({
      name: 'keyledger_appends_total',
      help: 'Appends of commands that the log acknowledged, and those that expected another revision than they found; audit accesses are not counted',
      labelNames: ['outcome'] as const,
      registers,
    }),
  };
}

/** Registers the metrics whose values are read at each scrape. */
export function observe(
  { registry }: Metrics,
  projector: Projector,
  webhookDispatcher: WebhookDispatcher,
  logOutput: { readonly dropped: number },
  keySet: KeySet | undefined,
): void {
  new Counter({
    name: 'keyledger_log_lines_dropped_total',
    help: 'Log lines dropped because the disk is full, or because the reader of the output stalls or has closed it',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(logOutput.dropped);
    },
  });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value());
      },
    });
  new Counter({
    name: 'keyledger_foreign_events_total',
    help: 'Foreign events that were skipped: no release of Keyledger can have written them',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(projector.foreignEvents);
    },
  });
  gauge(
    'keyledger_projector_lag_seconds',
    'Age in seconds of the last event that was read, until the read model holds it; then 0',
    () => projector.lag,
  );
  gauge(
    'keyledger_staleness_seconds',
    'Seconds since lists were last known to include the whole log',
    () => projector.readModelProgress.staleness,
  );
  gauge(
    'keyledger_verify_staleness_seconds',
    'Seconds since verifications were last known to include the whole log',
    () => projector.indexProgress.staleness,
  );
  gauge('keyledger_projector_position', 'Place in the log of the last event that the read model holds', () =>
    Number.parseInt(projector.readModelProgress.position?.split(':')[1]?.slice(0, 16) ?? '0', 16),
  );
  gauge(
    'keyledger_quarantined_streams',
    'API keys in quarantine: this release cannot read their history',
    () => projector.quarantined,
  );
  gauge(
    'keyledger_followers',
    'Feeds, replicas, webhooks and the webhook dispatcher that wait for the next event',
    () => projector.tail.waiting,
  );
  if (keySet)
    gauge(
      'keyledger_jwks_age_seconds',
      'Seconds since the key set of the token issuer was fetched',
      () => keySet.ageSeconds,
    );
  gauge('keyledger_webhooks', 'Webhooks that this instance delivers to', () => webhookDispatcher.activeWebhooks);
}

export const countRefusal =
  ({ refusedTokens }: Metrics) =>
  (reason: TokenFault): void =>
    refusedTokens.inc({ reason });

export function observeRequests(app: FastifyInstance, { requests }: Metrics): void {
  app.addHook('onResponse', ({ method, routeOptions }, reply, done) => {
    const labels = { method, route: routeOptions.url ?? 'unknown', status: reply.statusCode };
    requests.observe(labels, reply.elapsedTime / 1000);
    done();
  });
}
