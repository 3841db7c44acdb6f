import { randomUUID } from 'node:crypto';
import type { BaseLogger } from 'pino';
import { sleep } from '../../back-off.js';
import type { Webhook } from '../../domain/webhook.js';
import { classifyStream } from '../../event-store/streams.js';
import { hashOf } from '../../security/credentials.js';
import type { DeliveryDependencies } from './delivery-attempt.js';
import type { Attempt, Cursor } from './delivery-store.js';
import { EndpointWorker } from './endpoint-worker.js';
import type { DeliveryResult } from './sender.js';
import { openSigningSecrets, readWebhook } from './signing-secrets.js';

/** An instance that has not renewed its presence for this long counts as dead. */
const PRESENCE_TTL_MS = 5000;
/** Lease TTL: how long an endpoint idles after its owner crashes. A call that outlives its lease is aborted. */
const LEASE_TTL_MS = 6000;
/** Pause after a failure of the store or the log. */
const RETRY_DELAY_MS = 1000;
/** Endpoints are rebalanced this often, and when one of them changes. */
const REBALANCE_INTERVAL_MS = 1000;
const READY_POLL_MS = 100;
/** Time for calls under way to end when the service stops. */
const STOP_TIMEOUT_MS = 3000;

type Running = {
  readonly worker: EndpointWorker;
  readonly stop: AbortController;
  readonly abortCall: AbortController;
  readonly done: Promise<void>;
};

/**
 * Runs a worker for each endpoint that this instance holds a lease of. The live instances divide the endpoints by
 * rendezvous hashing: each endpoint belongs to the instance whose hash with it ranks first.
 */
export class WebhookDispatcher {
  readonly #dependencies: DeliveryDependencies;
  readonly #logger: BaseLogger;
  readonly #workers = new Map<string, Running>();
  readonly #stop = new AbortController();
  /** When the leases end (performance.now()). */
  #leasesHeldUntil = 0;
  #leaseTimer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(dependencies: Omit<DeliveryDependencies, 'instance'>, logger: BaseLogger) {
    this.#dependencies = { ...dependencies, instance: randomUUID() };
    this.#logger = logger;
  }

  start(): void {
    const unsubscribe = this.#dependencies.projector.onWebhookChanged((webhookId) => {
      for (const [id, { worker }] of this.#workers) if (webhookId === undefined || webhookId === id) worker.changed();
    });
    this.#running = this.#run().finally(unsubscribe);
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
   * Calls an endpoint once with a WebhookPing, which is in no log.
   * @returns undefined if the endpoint's secret cannot be opened
   * @throws KeyledgerError UNAVAILABLE
   */
  async ping({ webhookId, repoId, url }: Webhook): Promise<DeliveryResult | undefined> {
    const { clock, keyring, sender, log } = this.#dependencies;
    const now = clock();
    const webhook = await readWebhook(log, webhookId);
    const secrets = webhook && openSigningSecrets(webhook, keyring, now);
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
    return secrets && sender.send({ url, id: event.id, body: JSON.stringify(event), secrets }, now, this.#stop.signal);
  }

  /** The cursor of an endpoint and its last attempts, newest first. @throws Error the store is unavailable */
  async deliveryStatus(webhookId: string): Promise<{ cursor: Cursor | undefined; attempts: readonly Attempt[] }> {
    const { store } = this.#dependencies;
    return { cursor: await store.cursor(webhookId), attempts: await store.attempts(webhookId) };
  }

  /** Number of endpoints that this instance delivers to. */
  get activeWebhooks(): number {
    return this.#workers.size;
  }

  async #run(): Promise<void> {
    const { projector } = this.#dependencies;
    const { signal } = this.#stop;
    while (!projector.status.verify.ok && !signal.aborted) await sleep(READY_POLL_MS, signal);
    let { position } = projector.indexProgress;
    let rebalancedAt = Number.NEGATIVE_INFINITY;
    let failed = false;
    while (!signal.aborted) {
      try {
        for await (const batch of projector.tail.read(position, signal)) {
          const changed = batch.events.flatMap(({ stream }) => webhookIdIn(stream) ?? []);
          if (changed.length > 0 || performance.now() - rebalancedAt >= REBALANCE_INTERVAL_MS) {
            rebalancedAt = performance.now();
            await this.#cleanUpDeleted(changed);
            await this.#rebalance();
            failed = false;
          }
          position = batch.position;
        }
      } catch (error) {
        const err = { message: (error as Error).message };
        if (!failed) {
          this.#logger.warn({ err }, 'Webhook deliveries wait: the delivery store or the log is unavailable');
        }
        failed = true;
        await sleep(RETRY_DELAY_MS, signal);
      }
    }
  }

  async #cleanUpDeleted(webhookIds: readonly string[]): Promise<void> {
    const { store } = this.#dependencies;
    for (const webhookId of webhookIds) if (this.#isDeleted(webhookId)) await store.deleteWebhook(webhookId);
  }

  async #rebalance(): Promise<void> {
    const { projector, store, instance } = this.#dependencies;
    const active = [...projector.store.webhooks.existing()].filter(({ webhook }) => webhook.status === 'active');
    if (active.length === 0 && this.#workers.size === 0) return;
    const startedAt = performance.now();
    const instances = await store.heartbeat(instance, PRESENCE_TTL_MS);
    const own = new Set(
      active.map(({ webhook }) => webhook.webhookId).filter((id) => ownerOf(id, instances) === instance),
    );
    // An endpoint that moves to another instance stays leased until its call under way has ended.
    const ending = [...this.#workers.keys()].filter((id) => !own.has(id) && !this.#isDeleted(id));
    const held = await store.acquireLeases(instance, [...own, ...ending], LEASE_TTL_MS);
    this.#leasesHeldUntil = startedAt + LEASE_TTL_MS;
    clearTimeout(this.#leaseTimer);
    this.#leaseTimer = setTimeout(() => this.#abortCalls(), this.#leasesHeldUntil - performance.now());
    for (const [id, { stop, abortCall }] of this.#workers) {
      if (!own.has(id) || !held.has(id)) stop.abort();
      if (!held.has(id)) abortCall.abort();
    }
    const ended = ending.filter((id) => held.has(id) && !this.#workers.has(id));
    if (ended.length > 0) await store.releaseLeases(instance, ended);
    if (this.#stop.signal.aborted) return;
    for (const id of own) if (held.has(id) && !this.#workers.has(id)) this.#startWorker(id);
  }

  /** Lets other instances continue at once. Without it they wait until the leases of this one expire. */
  async #releaseAll(): Promise<void> {
    const { projector, store, instance } = this.#dependencies;
    const ids = [...projector.store.webhooks.existing()].map(({ webhook }) => webhook.webhookId);
    if (ids.length === 0) return;
    await store.releaseLeases(instance, ids);
    await store.heartbeat(instance, 0);
  }

  #startWorker(webhookId: string): void {
    const [stop, abortCall] = [new AbortController(), new AbortController()];
    const isHeld = () => performance.now() < this.#leasesHeldUntil;
    const lease = { stop: stop.signal, abortCall: abortCall.signal, isHeld };
    const worker = new EndpointWorker(this.#dependencies, webhookId, lease);
    const done = this.#runWorker(worker, webhookId, stop.signal);
    this.#workers.set(webhookId, { worker, stop, abortCall, done });
  }

  async #runWorker(worker: EndpointWorker, webhookId: string, stop: AbortSignal): Promise<void> {
    const { store, instance } = this.#dependencies;
    try {
      await worker.run();
      if (stop.aborted) await store.releaseLeases(instance, [webhookId]);
    } catch (error) {
      const { expected, message } = error as { expected?: boolean; message?: string };
      const what = 'Deliveries to a webhook wait: the delivery store or the log is unavailable; trying again';
      if (expected) this.#logger.debug({ err: { message }, webhookId }, what);
      else this.#logger.warn({ err: error, webhookId }, what);
      await sleep(RETRY_DELAY_MS, stop);
    } finally {
      this.#workers.delete(webhookId);
    }
  }

  #isDeleted(webhookId: string): boolean {
    return this.#dependencies.projector.store.webhooks.get(webhookId)?.webhook.status === 'deleted';
  }

  #abortCalls(): void {
    for (const { abortCall } of this.#workers.values()) abortCall.abort();
  }
}

function webhookIdIn(stream: string): string | undefined {
  const ref = classifyStream(stream);
  return ref?.kind === 'webhook' ? ref.id : undefined;
}

/** All instances that see the same live instances agree on the owner. */
function ownerOf(webhookId: string, instances: readonly string[]): string | undefined {
  const rank = (instance: string) => hashOf(instance + webhookId);
  return [...instances].sort((a, b) => (rank(a) < rank(b) ? 1 : -1))[0];
}
