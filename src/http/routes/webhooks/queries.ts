import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { HistoryEntry } from '../../../audit/describe-event.js';
import { webhookHistory } from '../../../audit/history.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { WebhookEntry } from '../../../projections/webhook-entry.js';
import { type CommandDependencies, commandContext, parseMinPosition } from '../../command-context.js';
import { errors, ReadHeaders, RepoParams } from '../../schemas.js';
import { History } from '../audit/audit.js';
import { requireWebhook, requireWebhookId, WebhookParams } from './schemas.js';

const Webhook = z
  .object({
    id: z.uuid(),
    repoId: z.string(),
    url: z.string(),
    types: z
      .array(z.string())
      .nullable()
      .describe('Types of events that its endpoint receives; null: all but AuditAccessed'),
    description: z.string().nullable(),
    status: z
      .enum(['active', 'paused', 'unavailable'])
      .describe(
        'unavailable: its history holds an event that cannot be read; its endpoint receives nothing, but it can be deleted',
      ),
    pausedBecause: z
      .object({
        cause: z
          .enum(['requested', 'gone', 'failing', 'unsealable', 'imported'])
          .describe(
            'gone: its endpoint answered 410; failing: every attempt failed for too long; unsealable: its secret cannot be opened, rotate it; imported: this log is a copy',
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

/** The calls that read the webhooks of a repository. */
export const webhookQueryRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries, log } = dependencies;

    app.get(
      '/repo/:repoId/webhook',
      {
        config: { permission: 'feed' },
        schema: {
          operationId: 'getRepoWebhooks',
          summary: 'List the webhooks of a repository, in registration order',
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
          summary: 'Show one webhook',
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

    app.get(
      '/repo/:repoId/webhook/:webhookId/history',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getRepoWebhookHistory',
          summary: 'List every event of a webhook, oldest first, also after its deletion',
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

function webhookView({ webhook }: WebhookEntry): z.infer<typeof Webhook> {
  const { webhookId: id, repoId, url, types, description, status, pausedBecause, createdAt } = webhook;
  if (status === 'deleted') throw new KeyledgerError('WEBHOOK_NOT_FOUND');
  return { id, repoId, url, types: types && [...types], description, status, pausedBecause, createdAt };
}
