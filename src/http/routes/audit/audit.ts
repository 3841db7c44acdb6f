import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { HistoryEntry } from '../../../audit/describe-event.js';
import { parseBound } from '../../../audit/event-range.js';
import { history } from '../../../audit/history.js';
import { readEntries } from '../../../audit/read-entries.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { KeyledgerError } from '../../../domain/errors.js';
import { parsePosition } from '../../../event-store/position.js';
import type { EventRef } from '../../../projections/event-index.js';
import { type CommandDependencies, commandContext, requireApiKeyId } from '../../command-context.js';
import {
  definedEntries,
  EventTypes,
  errors,
  KeyParams,
  Limit,
  RepoParams,
  TEXT_RULE,
} from '../../schemas.js';

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
    webhookId: z.string().optional().describe('Of an event of a webhook'),
    revision: z.int(),
    position: z.string(),
    changes: z.record(z.string(), z.object({ from: value, to: value })),
    reason: z.string().nullable().optional().describe('Of a suspension or a deletion'),
    unreadable: z.string().optional().describe('Why this release cannot read it'),
    accessed: z
      .object({
        access: z.string(),
        query: z.record(z.string(), z.union([z.string(), z.number()])),
        from: z.string(),
        verified: z.boolean().describe('False at the command line, where nobody has proved who it is'),
      })
      .optional()
      .describe('Of an AuditAccessed: what was looked at'),
  })
  .meta({ id: 'AuditEvent' });
export const History = z.object({ success: z.literal(true), events: z.array(Event) });
const Audit = History.extend({
  nextCursor: z.string().nullable().describe('Where the next page begins, or null'),
});

const AuditQuery = z.strictObject({
  from: z
    .string()
    .optional()
    .describe('What occurred at this time (RFC 3339) or later, or comes behind this position'),
  to: z
    .string()
    .optional()
    .describe('What occurred at this time or before, or comes up to and with this position'),
  type: EventTypes.optional(),
  actor: z.string(TEXT_RULE).optional().describe('Subject of who did it'),
  apikeyId: z.string(TEXT_RULE).toLowerCase().optional(),
  limit: Limit.optional().describe(`1 to 1000; without it ${DEFAULT_LIMIT}`),
  cursor: z.string().optional().describe('The nextCursor of the page before'),
});

const tags = ['Audit'];

/** What happened, and who did it. Each answer is written down before it is given. */
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
          summary: 'Every event of an AI API key, oldest first, also after its deletion',
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
          summary: 'The events of a repository, newest first',
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
        const eventIndex = await queries.eventIndexAt(await log.end());
        const lines = firstOf(eventIndex.ofRepository(repoId, query), limit + 1);
        const asked = { from, to, type: type?.join(), actor, limit, cursor };
        const context = commandContext(request, dependencies);
        const apiKeyId = apikeyId ?? null;
        await recordAuditAccess(context, { access: 'audit', repoId, apiKeyId, query: definedEntries(asked) });
        const events = await readEntries(log, lines.slice(0, limit));
        const nextCursor = lines.length > limit ? (events.at(-1)?.position ?? null) : null;
        return { success: true as const, events, nextCursor };
      },
    );
  };

function firstOf(lines: Iterable<EventRef>, count: number): EventRef[] {
  const first: EventRef[] = [];
  for (const line of lines) {
    first.push(line);
    if (first.length === count) break;
  }
  return first;
}
