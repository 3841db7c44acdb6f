import type { Occurred } from './ai-api-key.js';
import type { Idempotency, IdempotencyRecord } from './idempotency.js';
import type { SealedSecret } from './sealed-secret.js';
import type { EpochMs } from './time.js';
import { isUuid } from './uuid.js';

/**
 * The aggregate of a webhook, one stream each: an endpoint that receives the events of a repository. Sections as in
 * ai-api-key.ts. How far an endpoint has received them is not part of it, because that changes with each call.
 */

// --- Stream ---------------------------------------------------------------------------------

/** Prefix of the stream names; it names Keyledger's key, because other services have webhooks, too. */
export const WEBHOOK_CATEGORY = 'aiApiKeyWebhook-';

export const isWebhookId = isUuid;

export const webhookStream = (webhookId: string): string => WEBHOOK_CATEGORY + webhookId;

// --- Commands -------------------------------------------------------------------------------

/** The webhook and its repository, which every command and event names. */
export type WebhookRef = { readonly webhookId: string; readonly repoId: string };

/** Where to deliver, and which types of events; null: all but AuditAccessed. */
export type EndpointConfig = {
  readonly url: string;
  readonly types: readonly string[] | null;
  readonly description: string | null;
};

export type RegisterWebhook = WebhookRef &
  EndpointConfig & {
    readonly type: 'RegisterWebhook';
    readonly secretHash: string;
    readonly sealedSecret: string;
    readonly idempotency?: Idempotency | undefined;
  };
/** Undefined fields stay unchanged. */
export type ChangeWebhook = WebhookRef & {
  readonly type: 'ChangeWebhook';
  readonly url?: string | undefined;
  readonly types?: readonly string[] | null | undefined;
  readonly description?: string | null | undefined;
};
/** Gives the webhook a new secret; the old one signs as well for the overlap (seconds). */
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
/** Delivers the events after a position again; null: all events. */
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

/** requested: a caller paused it; gone: its endpoint answered 410; failing: for too long; unsealable: no master key. */
export const PAUSE_CAUSES = ['requested', 'gone', 'failing', 'unsealable'] as const;
export type PauseCause = (typeof PAUSE_CAUSES)[number];

// --- Events ---------------------------------------------------------------------------------

type EventOf<Type extends string, Data = unknown> = { readonly type: Type; readonly data: WebhookRef & Data };

export type WebhookRegistered = EventOf<'WebhookRegistered', Omit<RegisterWebhook, 'type'>>;
export type WebhookChanged = EventOf<'WebhookChanged', EndpointConfig>;
export type WebhookSecretRotated = EventOf<
  'WebhookSecretRotated',
  SealedSecret & {
    /** When the old secret stops signing; null: at once. */
    readonly overlapEndsAt: string | null;
    readonly idempotency?: Idempotency | undefined;
  }
>;
export type WebhookPaused = EventOf<'WebhookPaused', { readonly cause: PauseCause; readonly reason: string | null }>;
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
export type UnreadableWebhookEvent = {
  readonly type: 'Unreadable';
  readonly reason: string;
  readonly data: { readonly webhookId: string; readonly repoId?: string | undefined };
};

/** imported: another log recorded the event first. */
export type ImportOrigin = { readonly imported: boolean };

// --- State ----------------------------------------------------------------------------------

/**
 * `unavailable` (quarantined): the stream holds an event that this release cannot decode or apply. The webhook receives
 * nothing and accepts only deletion.
 */
export type Webhook = WebhookRef &
  EndpointConfig &
  SealedSecret & {
    readonly status: 'active' | 'paused' | 'deleted' | 'unavailable';
    /** 'imported': the log is a copy, and a copy delivers nothing until a caller resumes the webhook there. */
    readonly pausedBecause: {
      readonly cause: PauseCause | 'imported';
      readonly reason: string | null;
    } | null;
    readonly createdAt: string;
    readonly resumedAt: string | null;
    /** Where its last replay began: a position of the log that received the command, or `start`. */
    readonly replayedAfter: string | null;
    /** The secret before the last rotation, which signs until `goodUntil`; null if that rotation had no overlap. */
    readonly oldSecret: (SealedSecret & { readonly goodUntil: string }) | null;
    readonly idempotencyRecords: readonly IdempotencyRecord[];
  };

/** The secrets that sign at a point in time, newest first. */
export const signingSecretsAt = (webhook: Webhook, now: EpochMs): readonly SealedSecret[] =>
  webhook.oldSecret && now < Date.parse(webhook.oldSecret.goodUntil) ? [webhook, webhook.oldSecret] : [webhook];

// --- Evolve ---------------------------------------------------------------------------------

/**
 * Applies an event. Never throws: an event that does not fit makes the webhook unavailable, after which only a deletion
 * changes it. A deleted webhook stays deleted.
 */
export function evolveWebhook(
  state: Webhook | undefined,
  event: Occurred<WebhookEvent | UnreadableWebhookEvent> & ImportOrigin,
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

/** A webhook whose registration is unreadable: its id, and its repository if known. */
const unknownWebhook = ({ data, occurredAt }: Occurred<WebhookEvent | UnreadableWebhookEvent>): Webhook => ({
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
