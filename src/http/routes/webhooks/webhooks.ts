import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { changeWebhook } from '../../../commands/webhooks/change-webhook.js';
import { deleteWebhook } from '../../../commands/webhooks/delete-webhook.js';
import { registerWebhook } from '../../../commands/webhooks/register-webhook.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { WebhookEntry } from '../../../projections/webhook-index.js';
import { type CommandDependencies, commandContext, parseMinPosition } from '../../command-context.js';
import { BODY_RULE, Done, errors, IdempotencyHeaders, ReadHeaders, RepoParams, Text } from '../../schemas.js';
import {
  awaitIndex,
  IssuedWebhook,
  requireWebhook,
  requireWebhookId,
  TypeList,
  WebhookParams,
  webhookUrl,
} from './schemas.js';

const Webhook = z
  .object({
    id: z.uuid(),
    repoId: z.string(),
    url: z.string(),
    types: z
      .array(z.string())
      .nullable()
      .describe('Types of events that it gets; null: all but AuditAccessed'),
    description: z.string().nullable(),
    status: z
      .enum(['active', 'paused', 'unavailable'])
      .describe(
        'unavailable: its history holds an event that cannot be read; it is told nothing, but can be deleted',
      ),
    pausedBecause: z
      .object({
        cause: z
          .enum(['requested', 'gone', 'failing', 'unsealable', 'imported'])
          .describe(
            'gone: it answered 410; failing: every try failed for too long; unsealable: its secret cannot be opened, rotate it; imported: this log is a copy',
          ),
        reason: z.string().nullable(),
      })
      .nullable(),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'Webhook' });
const WebhookListResponse = z.object({ success: z.literal(true), webhooks: z.array(Webhook) });
const WebhookResponse = z.object({ success: z.literal(true), webhook: Webhook });

const tags = ['Webhooks'];

/** The endpoints of a repository. */
export const webhookRoutes =
  (
    dependencies: CommandDependencies & { readonly webhookNetworks: readonly string[] },
  ): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries, log, webhookNetworks } = dependencies;
    const WebhookUrl = webhookUrl(webhookNetworks);
    const EndpointBody = z.strictObject(
      { url: WebhookUrl, types: TypeList.optional(), description: Text.nullish() },
      BODY_RULE,
    );
    const ChangeBody = EndpointBody.partial().nullish();

    app.post(
      '/repo/:repoId/webhook',
      {
        config: { permission: 'change', failure: 'Failed to register webhook' },
        schema: {
          operationId: 'registerRepoWebhook',
          summary:
            'Register an endpoint that is told what happens from now on; its secret is in this answer only',
          tags,
          params: RepoParams,
          headers: IdempotencyHeaders,
          body: EndpointBody,
          response: { 201: IssuedWebhook, ...errors },
        },
      },
      async (request, reply) => {
        const { url, types = null, description } = request.body;
        const { position, ...issued } = await registerWebhook(commandContext(request, dependencies), {
          repoId: request.params.repoId,
          url,
          types,
          description: description || null,
          idempotencyKey: request.headers['idempotency-key'],
        });
        await awaitIndex(reply, queries, position);
        return reply.code(201).send({ success: true, ...issued });
      },
    );

    app.get(
      '/repo/:repoId/webhook',
      {
        config: { permission: 'feed' },
        schema: {
          operationId: 'getRepoWebhooks',
          summary: 'The endpoints of a repository, in the order of their registration',
          tags,
          params: RepoParams,
          headers: ReadHeaders,
          response: { 200: WebhookListResponse, ...errors },
        },
      },
      async (request) => {
        const webhooks = await queries.webhooks(parseMinPosition(request.headers, log));
        return {
          success: true as const,
          webhooks: webhooks.ofRepository(request.params.repoId).map(webhookView),
        };
      },
    );

    app.get(
      '/repo/:repoId/webhook/:webhookId',
      {
        config: { permission: 'feed' },
        schema: {
          operationId: 'getRepoWebhook',
          summary: 'One endpoint',
          tags,
          params: WebhookParams,
          headers: ReadHeaders,
          response: { 200: WebhookResponse, ...errors },
        },
      },
      async (request) => {
        const webhooks = await queries.webhooks(parseMinPosition(request.headers, log));
        return { success: true as const, webhook: webhookView(requireWebhook(webhooks, request.params)) };
      },
    );

    app.put(
      '/repo/:repoId/webhook/:webhookId',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'changeRepoWebhook',
          summary:
            'Change where an endpoint is, or which types of events it gets (null: all but AuditAccessed)',
          tags,
          params: WebhookParams,
          body: ChangeBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const { url, types, description } = request.body ?? {};
        const { changed, position } = await changeWebhook(commandContext(request, dependencies), {
          repoId,
          webhookId: requireWebhookId(webhookId),
          url,
          types,
          description: description === undefined ? undefined : description || null,
        });
        await awaitIndex(reply, queries, position);
        return { success: true as const, message: changed ? 'Webhook changed' : 'Nothing to change' };
      },
    );

    app.delete(
      '/repo/:repoId/webhook/:webhookId',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'deleteRepoWebhook',
          summary: 'Delete an endpoint for good',
          tags,
          params: WebhookParams,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, webhookId } = request.params;
        const input = { repoId, webhookId: requireWebhookId(webhookId) };
        const { position } = await deleteWebhook(commandContext(request, dependencies), input);
        await awaitIndex(reply, queries, position);
        return { success: true as const, message: 'Webhook deleted' };
      },
    );
  };

function webhookView({ webhook }: WebhookEntry): z.infer<typeof Webhook> {
  const { webhookId: id, repoId, url, types, description, status, pausedBecause, createdAt } = webhook;
  if (status === 'deleted') throw new KeyledgerError('WEBHOOK_NOT_FOUND');
  return { id, repoId, url, types: types && [...types], description, status, pausedBecause, createdAt };
}
