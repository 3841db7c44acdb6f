import type { FastifyReply } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Permission } from '../../../domain/authorization.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { EpochMs } from '../../../domain/time.js';
import { parsePosition } from '../../../event-store/position.js';
import type { LastUsedTracker } from '../../../last-used/last-used-tracker.js';
import { apiKeyView, type ListItem } from '../../../projections/list-item.js';
import { type CommandDependencies, parseMinPosition, requireApiKeyId } from '../../command-context.js';
import { jsonList } from '../../json-list.js';
import { AiType, errors, KeyParams, Limit, ReadHeaders, RepoParams, Status } from '../../schemas.js';
import { AsOf, getApiKeyAsOf, listApiKeysAsOf } from '../audit/as-of.js';

const Include = z.enum(['deleted'], 'must be deleted').optional().describe('deleted: include deleted keys');
const GetQuerystring = z.strictObject({ include: Include, asOf: AsOf });
const ListQuerystring = GetQuerystring.extend({
  status: Status.optional(),
  aiType: AiType.optional(),
  limit: Limit.optional().describe('1 to 1000; without it the answer is the whole list'),
  cursor: z.string().optional().describe('The nextCursor of the previous page'),
});

const ApiKey = z
  .object({
    id: z.uuid(),
    name: z.string(),
    repoId: z.string(),
    key: z.string().describe('Access key, FB_AI_…'),
    aiType: AiType,
    createdAt: z.iso.datetime(),
    deletedAt: z.iso.datetime().nullable(),
    expiresAt: z.iso.datetime().nullable(),
    lastUsedAt: z.iso
      .datetime()
      .optional()
      .describe(
        'Minute of the last verification that found the key valid; absent if unknown. Verifiers in other processes report once a minute',
      ),
    status: Status.describe(
      'unavailable: its history holds an event that cannot be read; it is never valid, but can be deleted',
    ),
    position: z.string().optional().describe('With asOf: position of the last event of the key at that time'),
    eventId: z.string().optional().describe('With asOf: id of the same event'),
  })
  .meta({ id: 'ApiKey' });
const ApiKeyListResponse = z.object({
  success: z.literal(true),
  apiKeys: z.array(ApiKey),
  nextCursor: z
    .string()
    .nullable()
    .optional()
    .describe('With a limit: where the next page starts; null on the last one'),
});
const ApiKeyResponse = z.object({ success: z.literal(true), apiKey: ApiKey });

const tags = ['API keys'];

const readPermission = (query: object): Permission => ('asOf' in query ? 'as-of' : 'list');

export type ApiKeyQueryDependencies = CommandDependencies & { readonly lastUsedTracker: LastUsedTracker };

/** The calls that read the API keys of a repository. */
export const apiKeyQueryRoutes =
  (dependencies: ApiKeyQueryDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, queries, clock, lastUsedTracker } = dependencies;

    app.get(
      '/repo/:repoId/ai/apikey',
      {
        config: { permission: readPermission },
        schema: {
          operationId: 'getRepoAiApiKeys',
          summary: 'List the AI API keys of a repository, newest first',
          tags,
          params: RepoParams,
          querystring: ListQuerystring,
          headers: ReadHeaders,
          response: { 200: ApiKeyListResponse, ...errors },
        },
      },
      async (request, reply) => {
        const { include, status, aiType, limit, cursor, asOf } = request.query;
        const includeDeleted = include === 'deleted' || status === 'deleted';
        const after = cursor === undefined ? undefined : parsePosition(cursor, log.logId);
        const query = { includeDeleted, status, aiType, after };
        const minPosition = parseMinPosition(request.headers, log);
        if (asOf !== undefined) {
          const found = await listApiKeysAsOf(request, reply, dependencies, { asOf, query, limit, minPosition });
          if ('views' in found) {
            return { success: true as const, apiKeys: found.views, nextCursor: found.next };
          }
          return sendWholeList(reply, found);
        }
        const { repoId } = request.params;
        if (limit === undefined) {
          const { pages, staleness } = await queries.listAll(repoId, query, minPosition);
          reply.header('keyledger-staleness', staleness.toFixed(1));
          return sendWholeList(reply, withLastUses(pages, dependencies));
        }
        const { items, next, staleness } = await queries.list(repoId, { ...query, limit }, minPosition);
        reply.header('keyledger-staleness', staleness.toFixed(1));
        const lastUsed = await readLastUses(lastUsedTracker, items);
        const now = clock();
        const apiKeys = items.map((item) => apiKeyResponse(item, lastUsed, now));
        return { success: true as const, apiKeys, nextCursor: next };
      },
    );

    app.get(
      '/repo/:repoId/ai/apikey/:apikeyId',
      {
        config: { permission: readPermission },
        schema: {
          operationId: 'getRepoAiApiKey',
          summary: 'Show one AI API key',
          tags,
          params: KeyParams,
          querystring: GetQuerystring,
          headers: ReadHeaders,
          response: { 200: ApiKeyResponse, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { include, asOf } = request.query;
        const minPosition = parseMinPosition(request.headers, log);
        if (asOf !== undefined) {
          const query = { asOf, apiKeyId: requireApiKeyId(apikeyId), include, minPosition };
          return { success: true as const, apiKey: await getApiKeyAsOf(request, reply, dependencies, query) };
        }
        const { item, staleness } = await queries.get(repoId, requireApiKeyId(apikeyId), minPosition);
        if (!item || (item.status === 'deleted' && include !== 'deleted')) {
          throw new KeyledgerError('KEY_NOT_FOUND');
        }
        reply.header('keyledger-staleness', staleness.toFixed(1));
        return {
          success: true as const,
          apiKey: apiKeyResponse(item, await readLastUses(lastUsedTracker, [item]), clock()),
        };
      },
    );
  };

const sendWholeList = async (reply: FastifyReply, pages: AsyncGenerator<object[]>) =>
  reply.type('application/json; charset=utf-8').send(await jsonList('apiKeys', pages));

async function* withLastUses(
  pages: AsyncIterable<ListItem[]>,
  { lastUsedTracker, clock }: ApiKeyQueryDependencies,
): AsyncGenerator<object[]> {
  for await (const items of pages) {
    const lastUsed = await readLastUses(lastUsedTracker, items);
    const now = clock();
    yield items.map((item) => apiKeyResponse(item, lastUsed, now));
  }
}

const MINUTE_MS = 60_000;

/** When keys were last used; undefined if that is unavailable. */
const readLastUses = (lastUsedTracker: LastUsedTracker, items: readonly ListItem[]) =>
  lastUsedTracker.lastUsed(items.map(({ apiKeyId }) => apiKeyId)).catch(() => undefined);

function apiKeyResponse(item: ListItem, lastUsed: ReadonlyMap<string, EpochMs> | undefined, now: EpochMs) {
  const view = apiKeyView(item, now);
  const usedAt = lastUsed?.get(item.apiKeyId);
  if (usedAt === undefined) return view;
  // A clock that was ahead recorded a time in the future.
  const at = Math.min(usedAt, now);
  return { ...view, lastUsedAt: new Date(at - (at % MINUTE_MS)).toISOString() };
}
