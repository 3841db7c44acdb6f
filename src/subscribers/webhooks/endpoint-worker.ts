import { sleep } from '../../back-off.js';
import type { EpochMs } from '../../domain/time.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Position } from '../../event-store/position.js';
import type { WebhookEntry } from '../../projections/webhook-entry.js';
import { readFeed } from '../feed.js';
import {
  attemptDelivery,
  type DeliveryDependencies,
  MAX_RETRY_DELAY_MS,
  type WorkerLease,
} from './delivery-attempt.js';
import type { Cursor } from './delivery-store.js';
import { MAX_RETRY_AFTER_MS } from './sender.js';
import { readWebhook } from './signing-secrets.js';

/** A clock that was ahead computed a time further away than this: the worker then delivers at once. */
const MAX_WAIT_MS = Math.max(MAX_RETRY_DELAY_MS, MAX_RETRY_AFTER_MS);
/** How often the cursor of an endpoint is saved while no event is for it. */
const CURSOR_FLUSH_MS = 60_000;

type RunOutcome = 'changed' | 'retry' | 'stopped' | 'paused';

/** Delivers the events of a repository to one endpoint: one at a time, in log order, each until it is acknowledged. */
export class EndpointWorker {
  readonly #dependencies: DeliveryDependencies;
  readonly #webhookId: string;
  readonly #lease: WorkerLease;
  /** One run with one version of the endpoint. */
  #run = new AbortController();
  #isChanged = false;

  constructor(dependencies: DeliveryDependencies, webhookId: string, lease: WorkerLease) {
    this.#dependencies = dependencies;
    this.#webhookId = webhookId;
    this.#lease = lease;
    lease.stop.addEventListener('abort', () => this.#run.abort(), { once: true });
  }

  /** Starts over with the endpoint as the webhook index holds it now. */
  changed(): void {
    this.#isChanged = true;
    this.#run.abort();
  }

  /**
   * Delivers until the lease ends or the endpoint is no longer active.
   * @throws Error the delivery store or the log is unavailable
   */
  async run(): Promise<void> {
    const { projector, log, store, clock } = this.#dependencies;
    let wasChanged = false;
    while (!this.#lease.stop.aborted) {
      this.#run = new AbortController();
      this.#isChanged = false;
      const found = projector.store.webhooks.get(this.#webhookId);
      if (found?.webhook.status !== 'active') return;
      const webhook = await readWebhook(log, this.#webhookId);
      if (webhook?.status !== 'active') return;
      const entry = { ...found, webhook };
      const cursor = await resolveCursor(log, entry, await store.cursor(this.#webhookId));
      // The change may have fixed the endpoint: try at once.
      if (!wasChanged) await waitUntilDue(cursor.failing, clock, this.#run.signal);
      wasChanged = this.#isChanged;
      if (this.#run.signal.aborted) continue;
      const outcome = await this.#deliver(entry, cursor);
      if (outcome === 'stopped' || outcome === 'paused') return;
      wasChanged = outcome === 'changed';
    }
  }

  async #deliver(entry: WebhookEntry, from: Cursor): Promise<RunOutcome> {
    const { projector } = this.#dependencies;
    const { repoId, types } = entry.webhook;
    const { signal } = this.#run;
    const options = { lease: this.#lease, isChanged: () => this.#isChanged };
    const query = {
      after: from.position ?? undefined,
      canSee: (other: string) => other === repoId,
      types: types ? new Set(types) : undefined,
    };
    let cursor = from;
    let passed: Position | undefined;
    let flushedAt = performance.now();
    for await (const { events, position } of readFeed(projector, query, signal)) {
      for (const event of events) {
        if (signal.aborted) break;
        const attempt = await attemptDelivery(this.#dependencies, entry, event, cursor, options);
        if (attempt.kind !== 'delivered') return attempt.kind;
        cursor = attempt.cursor;
      }
      if (signal.aborted) break;
      passed = position;
      if (performance.now() - flushedAt >= CURSOR_FLUSH_MS) {
        cursor = await advanceCursor(this.#dependencies, this.#webhookId, cursor, passed);
        flushedAt = performance.now();
      }
    }
    await advanceCursor(this.#dependencies, this.#webhookId, cursor, passed);
    return this.#isChanged ? 'changed' : 'stopped';
  }
}

async function waitUntilDue(failing: Cursor['failing'], clock: () => EpochMs, signal: AbortSignal): Promise<void> {
  const delay = (failing?.nextAt ?? 0) - clock();
  if (delay > 0 && delay <= MAX_WAIT_MS) await sleep(delay, signal);
}

/**
 * Where deliveries continue: after the cursor, or at `from` if a replay moved the webhook or the log no longer holds
 * the acknowledged event.
 */
async function resolveCursor(
  log: EventStore,
  { webhook, from, replay }: WebhookEntry,
  cursor: Cursor | undefined,
): Promise<Cursor> {
  const start = { position: from, eventId: null, replay, failing: null };
  if (!cursor || cursor.replay !== replay) return start;
  const { position, eventId, failing } = cursor;
  if (position !== null && eventId !== null && (await log.eventAt(position))?.id !== eventId) return start;
  const resumedAt = Date.parse(webhook.resumedAt ?? '');
  return failing && resumedAt >= failing.since ? { ...cursor, failing: null } : cursor;
}

/**
 * Saves how far the endpoint has come, past events that were not for it: should it ask for more types later, it does
 * not receive old events of them.
 */
async function advanceCursor(
  { projector, store, instance }: DeliveryDependencies,
  webhookId: string,
  cursor: Cursor,
  position: Position | undefined,
): Promise<Cursor> {
  const isAhead = (other: Position) => cursor.position === null || other > cursor.position;
  if (position === undefined || !isAhead(position)) return cursor;
  const last = await projector.tail.lastEventUpTo(position);
  if (!last || !isAhead(last.position)) return cursor;
  const advanced = { ...cursor, position: last.position, eventId: last.id, failing: null };
  return (await store.save(instance, webhookId, advanced)) ? advanced : cursor;
}
