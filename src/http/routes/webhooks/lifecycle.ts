import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { HistoryEntry } from '../../../audit/describe-event.js';
import { webhookHistory } from '../../../audit/history.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { pauseWebhook } from '../../../commands/webhooks/pause-webhook.js';
import { replayWebhook } from '../../../commands/webhooks/replay-webhook.js';
import { resumeWebhook } from '../../../commands/webhooks/resume-webhook.js';
import { rotateWebhookSecret } from '../../../commands/webhooks/rotate-webhook-secret.js';
import { KeyledgerError } from '../../../domain/errors.js';
import { isPosition } from '../../../event-store/position.js';
import { resolveResumeToken } from '../../../event-store/resume-token.js';
import { type CommandDependencies, commandContext } from '../../command-context.js';
import { BODY_RULE, Done, errors, IdempotencyHeaders, OverlapSeconds, Text } from '../../schemas.js';
import { History } from '../audit/audit.js';
import { awaitIndex, IssuedWebhook, requireWebhookId, WebhookParams } from './schemas.js';

const RotateBody = z.strictObject({ overlapSeconds: OverlapSeconds.optional() }, BODY_RULE).nullish();
const PauseBody = z.strictObject({ reason: Text.optional() }, BODY_RULE).nullish();
const AFTER_RULE = 'must be a position of this log, or start';
const ReplayBody = z.strictObject(
  {
    after: z
      .string(AFTER_RULE)
      .refine((text) => text === 'start' || isPosition(text), AFTER_RULE)
      .describe('Told again is what comes behind this position; `start`: everything'),
  },
  BODY_RULE,
);
const tags = ['Webhooks'];

/** What becomes of an endpoint between its registration and its deletion. */
export const webhookLifecycleRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries, log } = dependencies;

    app.post(
      '/repo/:repoId/webhook/:webhookId/rotate',
      {
        config: { permission: 'change', failure: 'Failed to rotate the secret' },
        schema: {
          operationId: 'rotateRepoWebhookSecret',
          summary: 'Give an endpoint a new secret; during the overlap the old one signs too',
          tags,
          params: WebhookParams,
          headers: IdempotencyHeaders,
          body: RotateBody,
          response: { 200: IssuedWebhook, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const { position, ...issued } = await rotateWebhookSecret(commandContext(request, dependencies), {
          repoId,
          webhookId: requireWebhookId(webhookId),
          overlapSeconds: request.body?.overlapSeconds ?? 0,
          idempotencyKey: request.headers['idempotency-key'],
        });
        await awaitIndex(reply, queries, position);
        return { success: true as const, ...issued };
      },
    );

    app.post(
      '/repo/:repoId/webhook/:webhookId/pause',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'pauseRepoWebhook',
          summary: 'Tell an endpoint nothing until it is resumed; it keeps its place',
          tags,
          params: WebhookParams,
          body: PauseBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const { changed, position } = await pauseWebhook(commandContext(request, dependencies), {
          repoId,
          webhookId: requireWebhookId(webhookId),
          cause: 'requested',
          reason: request.body?.reason || null,
        });
        await awaitIndex(reply, queries, position);
        return { success: true as const, message: changed ? 'Webhook paused' : 'Webhook was paused already' };
      },
    );

    app.post(
      '/repo/:repoId/webhook/:webhookId/resume',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'resumeRepoWebhook',
          summary: 'Go on with an endpoint where it was paused',
          tags,
          params: WebhookParams,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const input = { repoId, webhookId: requireWebhookId(webhookId) };
        const { changed, position } = await resumeWebhook(commandContext(request, dependencies), input);
        await awaitIndex(reply, queries, position);
        return { success: true as const, message: changed ? 'Webhook resumed' : 'Webhook was not paused' };
      },
    );

    app.post(
      '/repo/:repoId/webhook/:webhookId/replay',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'replayRepoWebhook',
          summary: 'Set an endpoint back (or on): it is told what comes behind a position',
          tags,
          params: WebhookParams,
          body: ReplayBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const { after: issued } = request.body;
        const after = issued === 'start' ? null : await resolveResumeToken(log, await log.end(), issued);
        const { position } = await replayWebhook(commandContext(request, dependencies), {
          repoId,
          webhookId: requireWebhookId(webhookId),
          after,
        });
        await awaitIndex(reply, queries, position);
        return { success: true as const, message: 'Webhook set to this position' };
      },
    );

    app.get(
      '/repo/:repoId/webhook/:webhookId/history',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getRepoWebhookHistory',
          summary: 'Every event of an endpoint, oldest first, also after its deletion',
          tags,
          params: WebhookParams,
          response: { 200: History, ...errors },
        },
      },
      async (request) => {
        const { repoId, webhookId } = request.params;
        const events: HistoryEntry[] = [];
        for await (const entry of webhookHistory(log, requireWebhookId(webhookId))) events.push(entry);
        if (events[0]?.changes['repoId']?.to !== repoId) throw new KeyledgerError('WEBHOOK_NOT_FOUND');
        const context = commandContext(request, dependencies);
        await recordAuditAccess(context, { access: 'history', repoId, apiKeyId: null, query: { webhookId } });
        return { success: true as const, events };
      },
    );
  };
