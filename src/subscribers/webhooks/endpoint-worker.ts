import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { CommandContext } from '../../commands/command-handler.js';
import { pauseWebhook } from '../../commands/webhooks/pause-webhook.js';
import { type PauseCause, signingSecretsAt, type Webhook } from '../../domain/webhook.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Position } from '../../event-store/position.js';
import type { Projector } from '../../projections/projector.js';
import type { WebhookEntry } from '../../projections/webhook-index.js';
import type { Keyring } from '../../security/keyring.js';
import { type FeedEvent, readFeed } from '../feed.js';
import type { Attempt, Cursor, DeliveryStore } from './delivery-store.js';
import { type DeliveryResult, MAX_RETRY_AFTER_MS, type WebhookSender } from './sender.js';

/** Who pauses an endpoint that nobody asked to pause. */
const DISPATCHER_ISSUER = 'keyledger:webhooks';
const MIN_RETRY_DELAY_MS = 1000;
const MAX_RETRY_DELAY_MS = 300_000;
const MAX_WAIT_MS = Math.max(MAX_RETRY_DELAY_MS, MAX_RETRY_AFTER_MS);
/** So often it is looked whether a failing endpoint was changed meanwhile. */
const CHANGE_POLL_MS = 500;
/** How far an endpoint is that nothing was for is kept so often, and at the end of a turn. */
const CURSOR_FLUSH_MS = 60_000;
/** RFC 9110, section 15.5.11: the endpoint wants no more. */
const GONE = 410;

export type DeliveryDependencies = Pick<CommandContext, 'log' | 'clock' | 'onAppend'> & {
  readonly log: EventStore;
  readonly projector: Projector;
  readonly keyring: Keyring;
  readonly store: DeliveryStore;
  readonly sender: WebhookSender;
  /** A failing call is repeated for so long (milliseconds). */
  readonly retryMs: number;
  /** Of all processes. */
  readonly instance: string;
  readonly onAttempt: (attempt: Attempt) => void;
};

/** What ends the telling of an endpoint by this instance. */
export type WorkerLease = {
  /** No further call is made. */
  readonly stop: AbortSignal;
  /** A call under way is broken off. */
  readonly abortCall: AbortSignal;
  /** Is the lease good? */
  readonly isHeld: () => boolean;
};

/**
 * Tells an endpoint what happens in its repository: one event after the other, in the order of the log, each until
 * it is taken. Ends with its turn, or when the endpoint is no longer active.
 * @throws Error store or log are out of reach
 */
export async function deliverToEndpoint(
  dependencies: DeliveryDependencies,
  webhookId: string,
  lease: WorkerLease,
): Promise<void> {
  const { log, projector, store } = dependencies;
  const currentCursor = async (entry: WebhookEntry) =>
    resolveCursor(log, entry, await store.cursor(webhookId));
  for (let entry = activeEntry(projector, webhookId); entry; entry = activeEntry(projector, webhookId)) {
    let cursor = await currentCursor(entry);
    // Nothing that was read is kept while it waits.
    await waitUntilDue(dependencies, entry, cursor, lease);
    const now = activeEntry(projector, webhookId);
    if (!now || lease.stop.aborted) return;
    // Whoever changed it may have mended it: it is tried at once.
    if (now.revision !== entry.revision) cursor = await currentCursor(now);
    if (!(await deliverFrom(dependencies, now, cursor, lease))) return;
  }
}

async function waitUntilDue(
  { projector, clock }: DeliveryDependencies,
  { webhook: { webhookId }, revision }: WebhookEntry,
  { failing }: Cursor,
  { stop: signal }: WorkerLease,
): Promise<void> {
  const isUnchanged = () => projector.webhookIndex.entryOf(webhookId)?.revision === revision;
  // A time further away was written while a clock was ahead.
  const isDue = (nextAt: number) => nextAt <= clock() || nextAt > clock() + MAX_WAIT_MS;
  while (failing && !isDue(failing.nextAt) && isUnchanged() && !signal.aborted) {
    const ms = Math.min(failing.nextAt - clock(), CHANGE_POLL_MS);
    await setTimeout(ms, undefined, { signal }).catch(() => undefined);
  }
}

function activeEntry({ webhookIndex: webhooks }: Projector, webhookId: string): WebhookEntry | undefined {
  const entry = webhooks.entryOf(webhookId);
  return entry?.webhook.status === 'active' ? entry : undefined;
}

/** Where an endpoint stands: from the beginning, if it was set back, or if its log lost what it had been told. */
async function resolveCursor(
  log: EventStore,
  entry: WebhookEntry,
  cursor: Cursor | undefined,
): Promise<Cursor> {
  const { from, replay } = entry;
  const beginning = { position: from, eventId: null, replay, failing: null };
  if (!cursor || cursor.replay !== replay) return beginning;
  const { position, eventId, failing } = cursor;
  if (position !== null && eventId !== null && (await log.eventAt(position))?.id !== eventId)
    return beginning;
  const resumedAt = Date.parse(entry.webhook.resumedAt ?? '');
  return failing && resumedAt >= failing.since ? { ...cursor, failing: null } : cursor;
}

/** @returns true to look at the endpoint anew: it has changed, or its call failed */
async function deliverFrom(
  dependencies: DeliveryDependencies,
  { webhook: { webhookId, repoId, types }, replay }: WebhookEntry,
  from: Cursor,
  lease: WorkerLease,
): Promise<boolean> {
  const { projector } = dependencies;
  const isSame = (entry: WebhookEntry | undefined) =>
    entry?.webhook.status === 'active' &&
    entry.replay === replay &&
    String(entry.webhook.types) === String(types);
  const query = {
    after: from.position ?? undefined,
    sees: (other: string) => other === repoId,
    types: types ? new Set(types) : undefined,
  };
  let cursor = from;
  let passed: Position | undefined;
  let flushedAt = performance.now();
  const flushCursor = async () => {
    cursor = await advanceCursor(dependencies, webhookId, cursor, passed);
    flushedAt = performance.now();
  };
  for await (const { events, position } of readFeed(projector, query, lease.stop)) {
    if (!isSame(projector.webhookIndex.entryOf(webhookId))) {
      await flushCursor();
      return true;
    }
    for (const event of events) {
      const entry = projector.webhookIndex.entryOf(webhookId);
      if (!entry || !isSame(entry)) return true;
      const next = await attemptDelivery(dependencies, entry, event, cursor, lease);
      if (!next) return false;
      if (next.failing) return true;
      cursor = next;
    }
    passed = position;
    if (performance.now() - flushedAt >= CURSOR_FLUSH_MS) await flushCursor();
  }
  await flushCursor();
  return false;
}

/** The cursor behind what was not for the endpoint: it is not told that when it asks for more types one day. */
async function advanceCursor(
  { projector, store, instance }: DeliveryDependencies,
  webhookId: string,
  cursor: Cursor,
  position: Position | undefined,
): Promise<Cursor> {
  if (position === undefined || (cursor.position !== null && position <= cursor.position)) return cursor;
  const last = await projector.tail.lastEventAt(position);
  if (!last || (cursor.position !== null && last.position <= cursor.position)) return cursor;
  const passed = { ...cursor, position: last.position, eventId: last.id, failing: null };
  return (await store.save(instance, webhookId, passed)) ? passed : cursor;
}

/** @returns the cursor after one call; undefined if there was none, or if nobody may go on here */
async function attemptDelivery(
  dependencies: DeliveryDependencies,
  { webhook, revision }: WebhookEntry,
  { event, position, json }: FeedEvent,
  cursor: Cursor,
  lease: WorkerLease,
): Promise<Cursor | undefined> {
  const { projector, store, sender, clock, retryMs, instance, onAttempt } = dependencies;
  const { webhookId } = webhook;
  const isUnchanged = () => projector.webhookIndex.entryOf(webhookId)?.revision === revision;
  if (lease.stop.aborted || !lease.isHeld()) return undefined;
  const at = clock();
  const secrets = openSigningSecrets(webhook, dependencies.keyring, at);
  // While a master key is brought to one instance after the other, the next one may open it.
  const result = secrets
    ? await sender.send({ url: webhook.url, id: event.id, body: json, secrets }, at, lease.abortCall)
    : UNSEALABLE;
  if (lease.abortCall.aborted && result.status === null) return undefined;

  const { type, id: eventId } = event;
  const attempt = {
    eventId,
    type,
    position: event.position,
    at,
    ms: result.ms,
    status: result.status,
    error: result.error,
  };
  const isAcknowledged = result.status !== null && result.status >= 200 && result.status < 300;
  const next = isAcknowledged
    ? { position, eventId, replay: cursor.replay, failing: null }
    : { ...cursor, failing: nextFailure(cursor.failing, result, at, clock()) };
  onAttempt(attempt);
  if (!(await store.save(instance, webhookId, next, attempt))) return undefined;
  // What it was before it was changed says nothing of what it is now.
  if (!isUnchanged()) return next;
  if (result.status === GONE) return pause(dependencies, webhook, 'gone', null);
  if (next.failing && next.failing.nextAt - next.failing.since > retryMs) {
    const reason = result.error ?? `It answered ${result.status}`;
    return pause(dependencies, webhook, secrets ? 'failing' : 'unsealable', reason);
  }
  return next;
}

const UNSEALABLE: DeliveryResult = {
  status: null,
  error: 'The secret cannot be opened: its master key is gone. Rotate the secret',
  ms: 0,
  retryAfterMs: null,
};

function nextFailure(
  before: Cursor['failing'],
  { retryAfterMs }: DeliveryResult,
  at: number,
  now: number,
): NonNullable<Cursor['failing']> {
  const tries = (before?.tries ?? 0) + 1;
  const delay =
    Math.min(MIN_RETRY_DELAY_MS * 2 ** (tries - 1), MAX_RETRY_DELAY_MS) * (0.5 + Math.random() / 2);
  return {
    since: Math.min(before?.since ?? at, at),
    tries,
    nextAt: now + Math.round(Math.max(delay, retryAfterMs ?? 0)),
  };
}

/** What signs, newest first; undefined if the newest cannot be opened. */
export function openSigningSecrets(webhook: Webhook, keyring: Keyring, now: number): string[] | undefined {
  const { webhookId } = webhook;
  const [newest, ...older] = signingSecretsAt(webhook, now).map(
    ({ sealedSecret, secretVersion, secretHash }) =>
      keyring.open(sealedSecret, { webhookId, secretVersion }, secretHash),
  );
  return newest === undefined ? undefined : [newest, ...older.filter((secret) => secret !== undefined)];
}

async function pause(
  { log, projector, clock, onAppend }: DeliveryDependencies,
  { webhookId, repoId }: Webhook,
  cause: PauseCause,
  reason: string | null,
): Promise<undefined> {
  const actor = { issuer: DISPATCHER_ISSUER, subject: webhookId };
  const context = { log, clock, actor, requestId: randomUUID(), ...(onAppend ? { onAppend } : {}) };
  const { position } = await pauseWebhook(context, { webhookId, repoId, cause, reason });
  // Else it might be told once more, by whoever does not know it yet.
  await projector.indexProgress.waitFor(position);
  return undefined;
}
