import { randomUUID } from 'node:crypto';
import { backOffMs } from '../../back-off.js';
import { handleWebhookCommand } from '../../commands/aggregates.js';
import type { CommandContext } from '../../commands/command-handler.js';
import type { EpochMs } from '../../domain/time.js';
import type { PauseCause, Webhook } from '../../domain/webhook.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Projector } from '../../projections/projector.js';
import type { WebhookEntry } from '../../projections/webhook-entry.js';
import type { Keyring } from '../../security/keyring.js';
import type { FeedEvent } from '../feed.js';
import type { Attempt, Cursor, DeliveryStore } from './delivery-store.js';
import type { DeliveryResult, WebhookSender } from './sender.js';
import { openSigningSecrets } from './signing-secrets.js';

/** Issuer of the actor in events by which the dispatcher pauses a webhook. */
const DISPATCHER_ISSUER = 'keyledger:webhooks';
const MIN_RETRY_DELAY_MS = 1000;
export const MAX_RETRY_DELAY_MS = 300_000;
/** RFC 9110, section 15.5.11: the endpoint wants no more calls. */
const GONE = 410;

export type DeliveryDependencies = Pick<CommandContext, 'log' | 'clock' | 'onAppend'> & {
  readonly log: EventStore;
  readonly projector: Projector;
  readonly keyring: Keyring;
  readonly store: DeliveryStore;
  readonly sender: WebhookSender;
  /** How long a failing call is retried before the endpoint is paused (milliseconds). */
  readonly retryMs: number;
  /** Id of this process, unique among all instances. */
  readonly instance: string;
  readonly onAttempt: (attempt: Attempt) => void;
};

/** Lease of a webhook, as its worker sees it. */
export type WorkerLease = {
  /** Aborted when the worker must start no further call. */
  readonly stop: AbortSignal;
  /** Aborted when a call under way must end. */
  readonly abortCall: AbortSignal;
  /** Does this instance still hold the endpoint? */
  readonly isHeld: () => boolean;
};

/** Stopped: this instance may no longer deliver to the endpoint. */
export type AttemptOutcome =
  | { readonly kind: 'delivered'; readonly cursor: Cursor }
  | { readonly kind: 'retry' | 'stopped' | 'paused' };

/**
 * Calls an endpoint once with an event and saves the cursor.
 * @param entry with its sealed secrets, see readWebhook
 * @param isChanged was the endpoint changed since its entry was read? Then a failure does not pause it
 * @throws Error the delivery store or the log is unavailable
 */
export async function attemptDelivery(
  dependencies: DeliveryDependencies,
  { webhook }: WebhookEntry,
  event: FeedEvent,
  cursor: Cursor,
  { lease, isChanged }: { readonly lease: WorkerLease; readonly isChanged: () => boolean },
): Promise<AttemptOutcome> {
  const { store, sender, clock, retryMs, instance, onAttempt } = dependencies;
  if (lease.stop.aborted || !lease.isHeld()) return { kind: 'stopped' };
  const at = clock();
  const secrets = openSigningSecrets(webhook, dependencies.keyring, at);
  const { id, type } = event.event;
  // While a new master key is rolled out, another instance may be able to open the secret: retry.
  const result = secrets
    ? await sender.send({ url: webhook.url, id, body: event.json, secrets }, at, lease.abortCall)
    : { status: null, error: SECRET_UNAVAILABLE, ms: 0, retryAfterMs: null };
  const { status, error, ms } = result;
  if (lease.abortCall.aborted && status === null) return { kind: 'stopped' };

  const attempt = { eventId: id, type, position: event.event.position, at, ms, status, error };
  const next: Cursor = isAcknowledged(status)
    ? { position: event.position, eventId: id, replay: cursor.replay, failing: null }
    : { ...cursor, failing: nextFailure(cursor.failing, result, at, clock()) };
  onAttempt(attempt);
  if (!(await store.save(instance, webhook.webhookId, next, attempt))) return { kind: 'stopped' };
  if (next.failing === null) return { kind: 'delivered', cursor: next };
  if (isChanged()) return { kind: 'retry' };
  if (status === GONE) return pause(dependencies, webhook, 'gone', null);
  if (next.failing.nextAt - next.failing.since > retryMs) {
    const reason = error ?? `It answered ${status}`;
    return pause(dependencies, webhook, secrets ? 'failing' : 'unsealable', reason);
  }
  return { kind: 'retry' };
}

/** Error of a webhook whose signing secret cannot be opened. */
export const SECRET_UNAVAILABLE = 'The secret cannot be opened: its master key is missing. Rotate the secret';

/** @param status HTTP status of the endpoint's answer; null without one */
export const isAcknowledged = (status: number | null): boolean => status !== null && status >= 200 && status < 300;

function nextFailure(
  before: Cursor['failing'],
  { retryAfterMs }: DeliveryResult,
  at: EpochMs,
  now: EpochMs,
): NonNullable<Cursor['failing']> {
  const failures = before?.tries ?? 0;
  const delay = backOffMs(failures, MIN_RETRY_DELAY_MS, MAX_RETRY_DELAY_MS);
  return {
    since: Math.min(before?.since ?? at, at),
    tries: failures + 1,
    nextAt: now + Math.round(Math.max(delay, retryAfterMs ?? 0)),
  };
}

async function pause(
  { log, projector, clock, onAppend }: DeliveryDependencies,
  { webhookId, repoId }: Webhook,
  cause: PauseCause,
  reason: string | null,
): Promise<AttemptOutcome> {
  const actor = { issuer: DISPATCHER_ISSUER, subject: webhookId };
  const context = { log, clock, actor, requestId: randomUUID(), ...(onAppend ? { onAppend } : {}) };
  const command = { type: 'PauseWebhook', webhookId, repoId, cause, reason } as const;
  const { position } = await handleWebhookCommand(context, webhookId, command);
  // Until the index holds the pause, the dispatcher would start another worker.
  await projector.indexProgress.waitFor(position);
  return { kind: 'paused' };
}
