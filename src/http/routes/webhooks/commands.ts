import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { handleWebhookCommand } from '../../../commands/aggregates.js';
import { registerWebhook } from '../../../commands/webhooks/register-webhook.js';
import { rotateWebhookSecret } from '../../../commands/webhooks/rotate-webhook-secret.js';
import type { WebhookCommand, WebhookRef } from '../../../domain/webhook.js';
import { isPosition } from '../../../event-store/position.js';
import { resolveResumeToken } from '../../../event-store/resume-token.js';
import type { CommandDependencies } from '../../command-context.js';
import { changes, mutations } from '../../mutation.js';
import { BODY_RULE, OverlapSeconds, RepoParams, Text } from '../../schemas.js';
import { IssuedWebhook, requireWebhookId, TypeList, WebhookParams, webhookUrl } from './schemas.js';

const RotateBody = z.strictObject({ overlapSeconds: OverlapSeconds.optional() }, BODY_RULE).nullish();
const PauseBody = z.strictObject({ reason: Text.optional() }, BODY_RULE).nullish();
const AFTER_RULE = 'must be a position of this log, or start';
const ReplayBody = z.strictObject(
  {
    after: z
      .string(AFTER_RULE)
      .refine((text) => text === 'start' || isPosition(text), AFTER_RULE)
      .describe('The endpoint next receives the events after this position; `start`: all events'),
  },
  BODY_RULE,
);

/** The calls that change the webhooks of a repository. */
export const webhookCommandRoutes =
  (dependencies: CommandDependencies & { readonly webhookNetworks: readonly string[] }): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries, log, webhookNetworks } = dependencies;
    const RegisterBody = z.strictObject(
      { url: webhookUrl(webhookNetworks), types: TypeList.optional(), description: Text.nullish() },
      BODY_RULE,
    );
    const ChangeBody = RegisterBody.partial().nullish();
    const mutation = mutations(app, dependencies, {
      tags: ['Webhooks'],
      awaitProjection: (position) => queries.awaitIndex(position),
    });
    const change = changes(mutation, {
      params: WebhookParams,
      toRef: ({ repoId, webhookId }): WebhookRef => ({ repoId, webhookId: requireWebhookId(webhookId) }),
      handle: (context, ref, command: WebhookCommand) => handleWebhookCommand(context, ref.webhookId, command),
    });

    mutation(
      {
        method: 'POST',
        url: '/repo/:repoId/webhook',
        config: { failure: 'Failed to register webhook' },
        operationId: 'registerRepoWebhook',
        summary: 'Register a webhook, whose endpoint receives events from now on; only this answer holds its secret',
        params: RepoParams,
        body: RegisterBody,
        idempotent: true,
        success: { status: 201, schema: IssuedWebhook },
      },
      ({ context, params: { repoId }, body: { url, types = null, description }, idempotencyKey }) =>
        registerWebhook(context, { repoId, url, types, description: description || null, idempotencyKey }),
    );

    change(
      {
        method: 'PUT',
        url: '/repo/:repoId/webhook/:webhookId',
        operationId: 'changeRepoWebhook',
        summary:
          'Change the URL of a webhook, or the event types that its endpoint receives (null: all but AuditAccessed)',
        body: ChangeBody,
      },
      (ref, body) => {
        const { url, types, description: text } = body ?? {};
        const description = text === undefined ? undefined : text || null;
        return { type: 'ChangeWebhook', ...ref, url, types, description };
      },
      { appended: 'Webhook changed', unchanged: 'Nothing to change' },
    );

    change(
      {
        method: 'DELETE',
        url: '/repo/:repoId/webhook/:webhookId',
        operationId: 'deleteRepoWebhook',
        summary: 'Delete a webhook permanently',
      },
      (ref) => ({ type: 'DeleteWebhook', ...ref }),
      { appended: 'Webhook deleted', unchanged: 'Webhook deleted' },
    );

    mutation(
      {
        method: 'POST',
        url: '/repo/:repoId/webhook/:webhookId/rotate',
        config: { failure: 'Failed to rotate the secret' },
        operationId: 'rotateRepoWebhookSecret',
        summary: 'Give a webhook a new secret; the old one also signs during the overlap',
        params: WebhookParams,
        body: RotateBody,
        idempotent: true,
        success: { status: 200, schema: IssuedWebhook },
      },
      ({ context, params: { repoId, ...params }, body, idempotencyKey }) => {
        const webhookId = requireWebhookId(params.webhookId);
        const overlapSeconds = body?.overlapSeconds ?? 0;
        return rotateWebhookSecret(context, { repoId, webhookId, overlapSeconds, idempotencyKey });
      },
    );

    change(
      {
        method: 'POST',
        url: '/repo/:repoId/webhook/:webhookId/pause',
        operationId: 'pauseRepoWebhook',
        summary: 'Pause a webhook until it is resumed; it keeps its position',
        body: PauseBody,
      },
      (ref, body) => ({ type: 'PauseWebhook', ...ref, cause: 'requested', reason: body?.reason || null }),
      { appended: 'Webhook paused', unchanged: 'Webhook was paused already' },
    );

    change(
      {
        method: 'POST',
        url: '/repo/:repoId/webhook/:webhookId/resume',
        operationId: 'resumeRepoWebhook',
        summary: 'Resume a webhook at the position where it was paused',
      },
      (ref) => ({ type: 'ResumeWebhook', ...ref }),
      { appended: 'Webhook resumed', unchanged: 'Webhook was not paused' },
    );

    mutation(
      {
        method: 'POST',
        url: '/repo/:repoId/webhook/:webhookId/replay',
        operationId: 'replayRepoWebhook',
        summary: 'Move a webhook back or forward to a position; its endpoint receives the events after it',
        params: WebhookParams,
        body: ReplayBody,
      },
      async ({ context, params: { repoId, ...params }, body }) => {
        const after = body.after === 'start' ? null : await resolveResumeToken(log, await log.end(), body.after);
        const webhookId = requireWebhookId(params.webhookId);
        const command = { type: 'ReplayWebhook', repoId, webhookId, after } as const;
        const { position } = await handleWebhookCommand(context, webhookId, command);
        return { position, message: 'Webhook set to this position' };
      },
    );
  };
