import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { BaseLogger } from 'pino';
import { type Webhook, webhookIdOf } from '../../domain/webhook.js';
import type { RecordedEvent } from '../../event-store/event-store.js';
import { hashOf } from '../../security/credentials.js';
import type { Attempt, Cursor } from './delivery-store.js';
import {
  type DeliveryDependencies,
  deliverToEndpoint,
  openSigningSecrets,
  type WorkerLease,
} from './endpoint-worker.js';
import type { DeliveryResult } from './sender.js';

/** An instance that has not been heard of for so long is taken for dead. */
const PRESENCE_TTL_MS = 5000;
/** So long an endpoint waits after its instance was killed. A call that outlives its lease is broken off. */
const LEASE_TTL_MS = 6000;
/** After a failure that is none of the endpoint's, such as that of the store. */
const RETRY_DELAY_MS = 1000;
/** Endpoints are shared out anew so often, and when one of them changes. */
const REBALANCE_INTERVAL_MS = 1000;
/** Whether the log has been folded is looked at so often. */
const READY_POLL_MS = 100;
/** Calls under way when the service stops have so long. */
const STOP_TIMEOUT_MS = 3000;

type Worker = {
  readonly stop: AbortController;
  readonly cut: AbortController;
  readonly done: Promise<void>;
};

/**
 * Tells endpoints: those that this instance holds a lease of. The instances that live share them out among
 * themselves, each endpoint to the one whose hash with it is highest (rendezvous hashing).
 */
export class WebhookDispatcher {
  readonly #dependencies: DeliveryDependencies;
  readonly #logger: BaseLogger;
  readonly #workers = new Map<string, Worker>();
  readonly #stop = new AbortController();
  /** Leases are good until then (as performance.now). */
  #leasesHeldUntil = 0;
  #leaseTimer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(dependencies: Omit<DeliveryDependencies, 'instance'>, logger: BaseLogger) {
    this.#dependencies = { ...dependencies, instance: randomUUID() };
    this.#logger = logger;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    const { store, sender } = this.#dependencies;
    this.#stop.abort();
    await this.#running;
    const workers = [...this.#workers.values()];
    for (const { stop } of workers) stop.abort();
    const abortTimer = setTimeout(() => this.#abortCalls(), STOP_TIMEOUT_MS);
    await Promise.all(workers.map(({ done }) => done));
    clearTimeout(abortTimer);
    clearTimeout(this.#leaseTimer);
    await this.#releaseAll().catch(() => undefined);
    sender.close();
    await store.close();
  }

  /**
   * Calls an endpoint once, with an event of no log.
   * @returns what it answered; undefined if its secret cannot be opened
   */
  async ping(webhook: Webhook): Promise<DeliveryResult | undefined> {
    const { clock, keyring, sender, log } = this.#dependencies;
    const now = clock();
    const secrets = openSigningSecrets(webhook, keyring, now);
    const { webhookId, repoId, url } = webhook;
    const event = {
      specversion: '1.0',
      id: randomUUID(),
      source: `urn:uuid:${log.logId}`,
      type: 'WebhookPing',
      subject: webhookId,
      time: new Date(now).toISOString(),
      datacontenttype: 'application/json',
      data: { repoId, webhookId },
    };
    return (
      secrets &&
      sender.send({ url, id: event.id, body: JSON.stringify(event), secrets }, now, this.#stop.signal)
    );
  }

  /** How far an endpoint has been told, and its last calls, newest first. @throws Error the store is out of reach */
  async deliveryStatus(
    webhookId: string,
  ): Promise<{ cursor: Cursor | undefined; attempts: readonly Attempt[] }> {
    const { store } = this.#dependencies;
    return { cursor: await store.cursor(webhookId), attempts: await store.attempts(webhookId) };
  }

  /** How many endpoints this instance tells. */
  get activeEndpoints(): number {
    return this.#workers.size;
  }

  async #run(): Promise<void> {
    const { projector } = this.#dependencies;
    const { signal } = this.#stop;
    while (projector.unverifiableBecause !== undefined && !signal.aborted) {
      await wait(READY_POLL_MS, undefined, { signal }).catch(() => undefined);
    }
    let { position } = projector.indexProgress;
    let rebalancedAt = Number.NEGATIVE_INFINITY;
    let failed = false;
    while (!signal.aborted) {
      try {
        for await (const page of projector.tail.read(position, signal)) {
          const changes = page.events.filter(({ stream }) => webhookIdOf(stream) !== undefined);
          if (changes.length > 0 || performance.now() - rebalancedAt >= REBALANCE_INTERVAL_MS) {
            rebalancedAt = performance.now();
            await this.#cleanUpDeleted(changes);
            await this.#rebalance();
            failed = false;
          }
          position = page.position;
        }
      } catch (error) {
        if (!failed)
          this.#logger.warn(
            { err: { message: (error as Error).message } },
            'Webhooks wait: their cursors or the log are unavailable',
          );
        failed = true;
        await wait(RETRY_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #cleanUpDeleted(changes: readonly RecordedEvent[]): Promise<void> {
    const { projector, store } = this.#dependencies;
    for (const { stream } of changes) {
      const webhook = projector.webhookIndex.entryOf(webhookIdOf(stream) ?? '')?.webhook;
      if (webhook?.status === 'deleted') await store.deleteEndpoint(webhook.webhookId);
    }
  }

  async #rebalance(): Promise<void> {
    const { projector, store, instance } = this.#dependencies;
    const active = [...projector.webhookIndex.entries()].filter(({ webhook }) => webhook.status === 'active');
    if (active.length === 0 && this.#workers.size === 0) return;
    const began = performance.now();
    const instances = await store.heartbeat(instance, PRESENCE_TTL_MS);
    const own = new Set(
      active.map(({ webhook }) => webhook.webhookId).filter((id) => ownerOf(id, instances) === instance),
    );
    // What another instance is to tell from now on is held until a call under way has ended.
    const ending = [...this.#workers.keys()].filter((id) => !own.has(id) && !isDeleted(projector, id));
    const held = await store.acquireLeases(instance, [...own, ...ending], LEASE_TTL_MS);
    this.#leasesHeldUntil = began + LEASE_TTL_MS;
    clearTimeout(this.#leaseTimer);
    this.#leaseTimer = setTimeout(() => this.#abortCalls(), this.#leasesHeldUntil - performance.now());
    for (const [id, { stop, cut }] of this.#workers) {
      if (!own.has(id) || !held.has(id)) stop.abort();
      if (!held.has(id)) cut.abort();
    }
    const ended = ending.filter((id) => held.has(id) && !this.#workers.has(id));
    if (ended.length > 0) await store.releaseLeases(instance, ended);
    if (this.#stop.signal.aborted) return;
    for (const id of own) if (held.has(id) && !this.#workers.has(id)) this.#startWorker(id);
  }

  /** Others go on at once. Out of reach: they go on when what this instance holds has run out. */
  async #releaseAll(): Promise<void> {
    const { projector, store, instance } = this.#dependencies;
    const kept = [...projector.webhookIndex.entries()].filter(({ webhook }) => webhook.status !== 'deleted');
    if (kept.length === 0) return;
    await store.releaseLeases(
      instance,
      kept.map(({ webhook }) => webhook.webhookId),
    );
    await store.heartbeat(instance, 0);
  }

  #startWorker(webhookId: string): void {
    const { store, instance } = this.#dependencies;
    const [stop, cut] = [new AbortController(), new AbortController()];
    const mayCall = () => performance.now() < this.#leasesHeldUntil;
    const lease: WorkerLease = { stop: stop.signal, abortCall: cut.signal, isHeld: mayCall };
    const work = async () => {
      try {
        await deliverToEndpoint(this.#dependencies, webhookId, lease);
        if (stop.signal.aborted) await store.releaseLeases(instance, [webhookId]);
      } catch (error) {
        const { expected, message } = error as { expected?: boolean; message?: string };
        const trouble = 'A webhook could not be called; trying again';
        if (expected) this.#logger.debug({ err: { message }, webhookId }, trouble);
        else this.#logger.warn({ err: error, webhookId }, trouble);
        await wait(RETRY_DELAY_MS, undefined, { signal: stop.signal }).catch(() => undefined);
      } finally {
        this.#workers.delete(webhookId);
      }
    };
    this.#workers.set(webhookId, { stop, cut, done: work() });
  }

  #abortCalls(): void {
    for (const { cut } of this.#workers.values()) cut.abort();
  }
}

const isDeleted = (
  { webhookIndex: webhooks }: DeliveryDependencies['projector'],
  webhookId: string,
): boolean => webhooks.entryOf(webhookId)?.webhook.status === 'deleted';

/** Everybody who knows the same instances says the same. */
function ownerOf(webhookId: string, instances: readonly string[]): string | undefined {
  const rank = (instance: string) => hashOf(instance + webhookId);
  return [...instances].sort((a, b) => (rank(a) < rank(b) ? 1 : -1))[0];
}
