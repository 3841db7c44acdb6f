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
      help: 'Answered requests',
      labelNames: ['method', 'route', 'status'] as const,
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
      registers,
    }),
    refused: new Counter({
      name: 'keyledger_refused_requests_total',
      help: 'Requests that were refused with 503 because too much was under way',
      registers,
    }),
    refusedTokens: new Counter({
      name: 'keyledger_refused_tokens_total',
      help: 'Bearer tokens that were refused with 401, by what is wrong with them',
      labelNames: ['reason'] as const,
      registers,
    }),
    webhookCalls: new Counter({
      name: 'keyledger_webhook_calls_total',
      help: 'Calls of webhooks by the status of their answers; none: there was no answer',
      labelNames: ['status'] as const,
      registers,
    }),
    appends: new Counter({
      name: 'keyledger_appends_total',
      help: 'Appends acknowledged by the log, and those that found another revision than they expected',
      labelNames: ['outcome'] as const,
      registers,
    }),
  };
}

/** What is told of by looking. */
export function observe(
  { registry }: Metrics,
  projector: Projector,
  webhookDispatcher: WebhookDispatcher,
  logOutput: { readonly dropped: number },
  keySet: KeySet | undefined,
): void {
  new Counter({
    name: 'keyledger_log_lines_dropped_total',
    help: 'Log lines that could not be written: the disk is full, or the reader of the output stalls or has closed it',
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
    help: 'Skipped events, which no release of Keyledger can have written',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(projector.foreignEvents);
    },
  });
  gauge(
    'keyledger_projector_lag_seconds',
    'Age of the last event seen while later ones wait',
    () => projector.lag,
  );
  gauge(
    'keyledger_staleness_seconds',
    'For how long it has not been known that lists show all that the log holds',
    () => projector.readModelProgress.staleness,
  );
  gauge(
    'keyledger_verify_staleness_seconds',
    'For how long it has not been known that verdicts rest on all that the log holds',
    () => projector.indexProgress.staleness,
  );
  gauge('keyledger_projector_position', 'Place in the log of the last event in the read model', () =>
    Number.parseInt(projector.readModelProgress.position?.split(':')[1]?.slice(0, 16) ?? '0', 16),
  );
  gauge(
    'keyledger_quarantined_streams',
    'Keys whose history could not be decoded or folded',
    () => projector.apiKeyIndex.quarantined,
  );
  gauge(
    'keyledger_followers',
    'Feeds, replicas and webhooks that wait for the next event',
    () => projector.tail.waiting,
  );
  if (keySet)
    gauge(
      'keyledger_jwks_age_seconds',
      'Seconds since the key set of the token issuer was fetched',
      () => keySet.ageSeconds,
    );
  gauge('keyledger_webhooks', 'Webhooks that this instance tells', () => webhookDispatcher.activeEndpoints);
}

export const countRefusal =
  ({ refusedTokens }: Metrics) =>
  (reason: TokenFault): void =>
    refusedTokens.inc({ reason });

/** Times every answer. */
export function observeRequests(app: FastifyInstance, { requests }: Metrics): void {
  app.addHook('onResponse', ({ method, routeOptions }, reply, done) => {
    const labels = { method, route: routeOptions.url ?? 'unknown', status: reply.statusCode };
    requests.observe(labels, reply.elapsedTime / 1000);
    done();
  });
}
