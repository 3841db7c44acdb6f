import type { Occurred } from './ai-api-key.js';
import type { Idempotency, IdempotencyRecord } from './idempotency.js';

/**
 * The other aggregate: one endpoint that is told of the events of a repository, one stream. Top to bottom as
 * ai-api-key.ts; decide is next door. How far an endpoint has been told is no part of it: that changes with each call.
 */

// --- Stream ---------------------------------------------------------------------------------

/** What the names of these streams begin with: a log may be shared with others, who have webhooks too. */
export const WEBHOOK_CATEGORY = 'aiApiKeyWebhook-';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const isWebhookId = (text: string): boolean => UUID.test(text);

export const webhookStream = (webhookId: string): string => WEBHOOK_CATEGORY + webhookId;

/** The endpoint whose stream this is, or undefined if the name belongs to none. */
export function webhookIdOf(stream: string): string | undefined {
  const id = stream.slice(WEBHOOK_CATEGORY.length);
  return stream.startsWith(WEBHOOK_CATEGORY) && isWebhookId(id) ? id : undefined;
}

export const isWebhookStream = (stream: string): boolean => webhookIdOf(stream) !== undefined;

// --- Commands -------------------------------------------------------------------------------

/** The endpoint and where it belongs: what every command and every event says. */
export type WebhookRef = { readonly webhookId: string; readonly repoId: string };

/** Where to call, and about which types of events; null: all but AuditAccessed. */
export type EndpointConfig = {
  readonly url: string;
  readonly types: readonly string[] | null;
  readonly description: string | null;
};

/** A signing secret at rest. */
export type SealedSecret = {
  readonly secretVersion: number;
  readonly secretHash: string;
  readonly sealedSecret: string;
};

export type RegisterWebhook = WebhookRef &
  EndpointConfig & {
    readonly type: 'RegisterWebhook';
    readonly secretHash: string;
    readonly sealedSecret: string;
    readonly idempotency?: Idempotency | undefined;
  };
/** What is undefined stays as it is. */
export type ChangeWebhook = WebhookRef & {
  readonly type: 'ChangeWebhook';
  readonly url?: string | undefined;
  readonly types?: readonly string[] | null | undefined;
  readonly description?: string | null | undefined;
};
/** A new secret; the old one signs too for the overlap (seconds). */
export type RotateWebhookSecret = WebhookRef &
  SealedSecret & {
    readonly type: 'RotateWebhookSecret';
    readonly overlapSeconds: number;
    readonly idempotency?: Idempotency | undefined;
  };
export type PauseWebhook = WebhookRef & {
  readonly type: 'PauseWebhook';
  readonly cause: PauseCause;
  readonly reason: string | null;
};
export type ResumeWebhook = WebhookRef & { readonly type: 'ResumeWebhook' };
/** Tells it again what comes behind a position; null: everything. */
export type ReplayWebhook = WebhookRef & { readonly type: 'ReplayWebhook'; readonly after: string | null };
export type DeleteWebhook = WebhookRef & { readonly type: 'DeleteWebhook' };

export type WebhookCommand =
  | RegisterWebhook
  | ChangeWebhook
  | RotateWebhookSecret
  | PauseWebhook
  | ResumeWebhook
  | ReplayWebhook
  | DeleteWebhook;

/** Somebody asked for it; the endpoint said that it is gone (410); it failed for too long; its secret cannot be opened. */
export const PAUSE_CAUSES = ['requested', 'gone', 'failing', 'unsealable'] as const;
export type PauseCause = (typeof PAUSE_CAUSES)[number];

// --- Events ---------------------------------------------------------------------------------

type EventOf<Type extends string, Data = unknown> = { readonly type: Type; readonly data: WebhookRef & Data };

export type WebhookRegistered = EventOf<'WebhookRegistered', Omit<RegisterWebhook, 'type'>>;
export type WebhookChanged = EventOf<'WebhookChanged', EndpointConfig>;
export type WebhookSecretRotated = EventOf<
  'WebhookSecretRotated',
  SealedSecret & {
    /** Until then the old secret signs too; null if it ended at once. */
    readonly overlapEndsAt: string | null;
    readonly idempotency?: Idempotency | undefined;
  }
>;
export type WebhookPaused = EventOf<
  'WebhookPaused',
  { readonly cause: PauseCause; readonly reason: string | null }
>;
export type WebhookResumed = EventOf<'WebhookResumed'>;
export type WebhookReplayed = EventOf<'WebhookReplayed', { readonly after: string | null }>;
export type WebhookDeleted = EventOf<'WebhookDeleted'>;

export type WebhookEvent =
  | WebhookRegistered
  | WebhookChanged
  | WebhookSecretRotated
  | WebhookPaused
  | WebhookResumed
  | WebhookReplayed
  | WebhookDeleted;

/** Stands in a fold for an event of the endpoint's stream that this release cannot decode. */
export type UnreadableWebhook = {
  readonly type: 'Unreadable';
  readonly reason: string;
  readonly data: { readonly webhookId: string; readonly repoId?: string | undefined };
};

/** Was the event made in another log, from which it was imported? */
export type ImportOrigin = { readonly imported: boolean };

// --- State ----------------------------------------------------------------------------------

/** `unavailable`: an event of its stream could not be decoded or folded. Nothing is told, and only deletion gets through. */
export type Webhook = WebhookRef &
  EndpointConfig &
  SealedSecret & {
    readonly status: 'active' | 'paused' | 'deleted' | 'unavailable';
    /** 'imported': its log was copied, and a copy calls nobody until somebody resumes it there. */
    readonly pausedBecause: {
      readonly cause: PauseCause | 'imported';
      readonly reason: string | null;
    } | null;
    readonly createdAt: string;
    readonly resumedAt: string | null;
    /** What it was last set back to: a position of the log that it was asked of, or `start`. */
    readonly replayedAfter: string | null;
    /** The secret before this one, while it overlaps. */
    readonly oldSecret: (SealedSecret & { readonly goodUntil: string }) | null;
    /** What each Idempotency-Key got. */
    readonly idempotencyRecords: readonly IdempotencyRecord[];
  };

/** The secrets that sign at a moment (milliseconds since 1970), newest first. */
export const signingSecretsAt = (webhook: Webhook, now: number): readonly SealedSecret[] =>
  webhook.oldSecret && now < Date.parse(webhook.oldSecret.goodUntil)
    ? [webhook, webhook.oldSecret]
    : [webhook];

// --- Evolve ---------------------------------------------------------------------------------

/**
 * The state after an event. Never throws: an event that makes no sense here makes the endpoint unavailable, and
 * what follows it changes nothing but a deletion. A deleted one stays deleted whatever comes.
 */
export function evolveWebhook(
  state: Webhook | undefined,
  event: Occurred<WebhookEvent | UnreadableWebhook> & ImportOrigin,
): Webhook {
  if (!state) return event.type === 'WebhookRegistered' ? registered(event) : unknownWebhook(event);
  if (state.status === 'deleted') return state;
  const unavailable: Webhook = { ...state, status: 'unavailable', pausedBecause: null };
  if (event.data.repoId !== state.repoId) return unavailable;
  if (event.type === 'WebhookDeleted') return { ...state, status: 'deleted', pausedBecause: null };
  if (state.status === 'unavailable') return state;
  switch (event.type) {
    case 'WebhookChanged': {
      const { url, types, description } = event.data;
      return { ...state, url, types, description };
    }
    case 'WebhookSecretRotated':
      return event.data.secretVersion === state.secretVersion + 1 ? rotated(state, event) : unavailable;
    case 'WebhookPaused': {
      if (event.imported) return { ...state, ...PAUSED_BY_IMPORT };
      const { cause, reason } = event.data;
      return { ...state, status: 'paused', pausedBecause: { cause, reason } };
    }
    case 'WebhookResumed':
      return event.imported
        ? { ...state, ...PAUSED_BY_IMPORT }
        : { ...state, status: 'active', pausedBecause: null, resumedAt: event.occurredAt };
    case 'WebhookReplayed':
      return { ...state, replayedAfter: event.data.after ?? 'start' };
    case 'WebhookRegistered':
    case 'Unreadable':
      return unavailable;
  }
}

const PAUSED_BY_IMPORT = { status: 'paused', pausedBecause: { cause: 'imported', reason: null } } as const;

function registered({ data, occurredAt, imported }: Occurred<WebhookRegistered> & ImportOrigin): Webhook {
  const { idempotency, ...rest } = data;
  return {
    ...rest,
    ...(imported ? PAUSED_BY_IMPORT : { status: 'active', pausedBecause: null }),
    createdAt: occurredAt,
    resumedAt: null,
    replayedAfter: null,
    secretVersion: 1,
    oldSecret: null,
    idempotencyRecords: idempotency ? [{ ...idempotency, secretVersion: 1, at: occurredAt }] : [],
  };
}

function rotated(state: Webhook, { data, occurredAt }: Occurred<WebhookSecretRotated>): Webhook {
  const { secretVersion, secretHash, sealedSecret, overlapEndsAt, idempotency } = data;
  const old = {
    secretVersion: state.secretVersion,
    secretHash: state.secretHash,
    sealedSecret: state.sealedSecret,
  };
  return {
    ...state,
    secretVersion,
    secretHash,
    sealedSecret,
    oldSecret: overlapEndsAt === null ? null : { ...old, goodUntil: overlapEndsAt },
    idempotencyRecords: idempotency
      ? [...state.idempotencyRecords, { ...idempotency, secretVersion, at: occurredAt }]
      : state.idempotencyRecords,
  };
}

/** What can be said of an endpoint whose registration cannot be read: which it is, and perhaps where. */
const unknownWebhook = ({ data, occurredAt }: Occurred<WebhookEvent | UnreadableWebhook>): Webhook => ({
  webhookId: data.webhookId,
  repoId: data.repoId ?? '',
  url: '(unreadable)',
  types: null,
  description: null,
  status: 'unavailable',
  pausedBecause: null,
  createdAt: occurredAt,
  resumedAt: null,
  replayedAfter: null,
  secretVersion: 0,
  secretHash: '',
  sealedSecret: '',
  oldSecret: null,
  idempotencyRecords: [],
});
