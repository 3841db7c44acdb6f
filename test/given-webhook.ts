import { expect } from '@jest/globals';
import type { Occurred } from '../src/domain/ai-api-key.js';
import { decideWebhook } from '../src/domain/decide-webhook.js';
import type { ErrorCode } from '../src/domain/errors.js';
import {
  evolveWebhook,
  type Origin,
  type PauseCause,
  type UnreadableWebhook,
  type Webhook,
  type WebhookCommand,
  type WebhookEvent,
} from '../src/domain/webhook.js';

/** As given.ts, of webhooks. */

export const webhookId = '1c64a0f2-93b5-4d5e-8a44-6d9f0f5c2e10';
export const repoId = 'shop';
export const ref = { webhookId, repoId };
export const T0 = '2026-01-01T00:00:00.000Z';
export const target = { url: 'https://hooks.example/', types: null, description: null };
export const secretOf = (version: number) => ({
  secretHash: `hash ${version}`,
  sealedSecret: `sealed ${version}`,
});
const registration = { ...ref, ...target, ...secretOf(1), idempotency: { keyHash: 'k', requestHash: 'r' } };

export const register = (change: object = {}): WebhookCommand => ({
  type: 'RegisterWebhook',
  ...registration,
  ...change,
});
export const change = (to: object): WebhookCommand => ({ type: 'ChangeWebhook', ...ref, ...to });
export const rotate = (secretVersion: number, overlapSeconds = 0, keyHash?: string): WebhookCommand => ({
  type: 'RotateWebhookSecret',
  ...ref,
  secretVersion,
  ...secretOf(secretVersion),
  overlapSeconds,
  idempotency: keyHash === undefined ? undefined : { keyHash, requestHash: `overlap ${overlapSeconds}` },
});
export const pause = (cause: PauseCause = 'requested', reason: string | null = null): WebhookCommand => ({
  type: 'PauseWebhook',
  ...ref,
  cause,
  reason,
});
export const resume: WebhookCommand = { type: 'ResumeWebhook', ...ref };
export const replay = (after: string | null): WebhookCommand => ({ type: 'ReplayWebhook', ...ref, after });
export const remove: WebhookCommand = { type: 'DeleteWebhook', ...ref };

export type Event = WebhookEvent | UnreadableWebhook;
export const registered: WebhookEvent = { type: 'WebhookRegistered', data: registration };
export const changed = (to: object): WebhookEvent => ({
  type: 'WebhookChanged',
  data: { ...ref, ...target, ...to },
});
export const rotated = (
  secretVersion: number,
  overlapEndsAt: string | null = null,
  idempotency?: { keyHash: string; requestHash: string },
): WebhookEvent => ({
  type: 'WebhookSecretRotated',
  data: { ...ref, secretVersion, ...secretOf(secretVersion), overlapEndsAt, idempotency },
});
export const paused = (cause: PauseCause = 'requested', reason: string | null = null): WebhookEvent => ({
  type: 'WebhookPaused',
  data: { ...ref, cause, reason },
});
export const resumed: WebhookEvent = { type: 'WebhookResumed', data: ref };
export const replayed = (after: string | null): WebhookEvent => ({
  type: 'WebhookReplayed',
  data: { ...ref, after },
});
export const deleted: WebhookEvent = { type: 'WebhookDeleted', data: ref };
export const unreadable: UnreadableWebhook = { type: 'Unreadable', reason: 'later version', data: ref };

/** Its own log's event at T0, or one that was imported. */
export const at = (event: Event, imported = false): Occurred<Event> & Origin => ({
  ...event,
  occurredAt: T0,
  imported,
});
export const imported = (event: Event) => at(event, true);
export const fold = (events: readonly (Occurred<Event> & Origin)[]): Webhook | undefined =>
  events.reduce<Webhook | undefined>(evolveWebhook, undefined);

/** All events happened at T0, in this log. */
export const given = (...events: Event[]) => ({
  when: (command: WebhookCommand, time = T0) => {
    const decide = () => decideWebhook(command, fold(events.map((event) => at(event))), time);
    return {
      thenEvents: (...expected: WebhookEvent[]) => expect(decide()).toEqual(expected),
      thenError: (code: ErrorCode, details = {}) => {
        expect(decide).toThrow(expect.objectContaining({ code, details }));
      },
    };
  },
});
