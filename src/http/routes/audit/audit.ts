import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { HistoryEntry } from '../../../audit/describe-event.js';
import { parseBound } from '../../../audit/event-range.js';
import { history } from '../../../audit/history.js';
import { readEntries } from '../../../audit/read-entries.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { KeyledgerError } from '../../../domain/errors.js';
import { parsePosition } from '../../../event-store/position.js';
import { type CommandDependencies, commandContext, requireApiKeyId } from '../../command-context.js';
import { definedEntries, EventTypes, errors, KeyParams, Limit, RepoParams, TEXT_RULE } from '../../schemas.js';

const DEFAULT_LIMIT = 100;

const value = z.union([z.string(), z.number(), z.null()]);
const Event = z
  .object({
    id: z.string(),
    type: z.string(),
    at: z.iso.datetime().describe('When it occurred'),
    actor: z.object({ issuer: z.string(), subject: z.string() }).nullable(),
    requestId: z.string().nullable(),
    apiKeyId: z.string().nullable(),
    webhookId: z.string().optional().describe('Of the event of a webhook'),
    revision: z.int(),
    position: z.string(),
    changes: z.record(z.string(), z.object({ from: value, to: value })),
    reason: z.string().nullable().optional().describe('Of a suspension or a deletion'),
    unreadable: z.string().optional().describe('Why this release cannot read the event'),
    accessed: z
      .object({
        access: z.string(),
        query: z.record(z.string(), z.union([z.string(), z.number()])),
        from: z.string(),
        verified: z.boolean().describe('False for the command line, where no actor proves an identity'),
      })
      .optional()
      .describe('Of an AuditAccessed: what was read'),
  })
  .meta({ id: 'AuditEvent' });
export const History = z.object({ success: z.literal(true), events: z.array(Event) });
const Audit = History.extend({
  nextCursor: z.string().nullable().describe('Where the next page starts; null on the last one'),
});

const AuditQuery = z.strictObject({
  from: z.string().optional().describe('Events that occurred at this time (RFC 3339) or later, or after this position'),
  to: z
    .string()
    .optional()
    .describe('Events that occurred at this time or earlier, or up to and including this position'),
  type: EventTypes.optional(),
  actor: z.string(TEXT_RULE).optional().describe('Subject of the actor'),
  apikeyId: z.string(TEXT_RULE).toLowerCase().optional(),
  limit: Limit.optional().describe(`1 to 1000; without it ${DEFAULT_LIMIT}`),
  cursor: z.string().optional().describe('The nextCursor of the previous page'),
});

const tags = ['Audit'];

/** What happened, and who did it; each access is recorded before it is answered. */
export const auditRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, queries } = dependencies;

    app.get(
      '/repo/:repoId/ai/apikey/:apikeyId/history',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getRepoAiApiKeyHistory',
          summary: 'List every event of an AI API key, oldest first, also after its deletion',
          tags,
          params: KeyParams,
          response: { 200: History, ...errors },
        },
      },
      async (request) => {
        const { repoId, apikeyId } = request.params;
        const events: HistoryEntry[] = [];
        for await (const entry of history(log, requireApiKeyId(apikeyId))) events.push(entry);
        if (events[0]?.changes['repoId']?.to !== repoId) throw new KeyledgerError('KEY_NOT_FOUND');
        const context = commandContext(request, dependencies);
        await recordAuditAccess(context, { access: 'history', repoId, apiKeyId: apikeyId, query: {} });
        return { success: true as const, events };
      },
    );

    app.get(
      '/repo/:repoId/ai/audit',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getRepoAiAudit',
          summary: 'List the events of a repository, newest first',
          tags,
          params: RepoParams,
          querystring: AuditQuery,
          response: { 200: Audit, ...errors },
        },
      },
      async (request) => {
        const { repoId } = request.params;
        const { from, to, type, actor, apikeyId, limit = DEFAULT_LIMIT, cursor } = request.query;
        const query = {
          from: from === undefined ? undefined : parseBound(from, log.logId),
          to: to === undefined ? undefined : parseBound(to, log.logId),
          types: type && new Set(type),
          subject: actor,
          apiKeyId: apikeyId,
          before: cursor === undefined ? undefined : parsePosition(cursor, log.logId),
        };
        const index = await queries.eventsAt(await log.end());
        const { page: refs } = await index.find(repoId, query, { take: limit + 1 });
        const asked = { from, to, type: type?.join(), actor, limit, cursor };
        const context = commandContext(request, dependencies);
        const apiKeyId = apikeyId ?? null;
        await recordAuditAccess(context, { access: 'audit', repoId, apiKeyId, query: definedEntries(asked) });
        const events = await readEntries(log, refs.slice(0, limit));
        const nextCursor = refs.length > limit ? (events.at(-1)?.position ?? null) : null;
        return { success: true as const, events, nextCursor };
      },
    );
  };
