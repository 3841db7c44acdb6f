import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { createAiApiKey } from '../../../commands/api-keys/create-ai-api-key.js';
import { deleteAiApiKey } from '../../../commands/api-keys/delete-ai-api-key.js';
import { updateAiApiKey } from '../../../commands/api-keys/update-ai-api-key.js';
import type { Permission } from '../../../domain/authorization.js';
import { KeyledgerError } from '../../../domain/errors.js';
import { parsePosition } from '../../../event-store/position.js';
import type { LastUsedTracker } from '../../../last-used/last-used-tracker.js';
import { apiKeyView, type ListItem } from '../../../projections/list-item.js';
import {
  awaitReadModel,
  type CommandDependencies,
  commandContext,
  parseMinPosition,
  requireApiKeyId,
} from '../../command-context.js';
import {
  AiType,
  BODY_RULE,
  Done,
  ExpiresAt,
  errors,
  IdempotencyHeaders,
  IssuedApiKey,
  KeyParams,
  Limit,
  Name,
  ReadHeaders,
  RepoParams,
  Status,
} from '../../schemas.js';
import { AsOf, getAsOf, listAsOf } from '../audit/as-of.js';

const CreateBody = z.strictObject({ name: Name, aiType: AiType, expiresAt: ExpiresAt.optional() }, BODY_RULE);
const UpdateBody = z
  .strictObject({ name: Name.optional(), expiresAt: ExpiresAt.optional() }, BODY_RULE)
  .nullish();

const Include = z.enum(['deleted'], 'must be deleted').optional().describe('deleted: deleted keys too');
const GetQuerystring = z.strictObject({ include: Include, asOf: AsOf });
const ListQuerystring = GetQuerystring.extend({
  status: Status.optional(),
  aiType: AiType.optional(),
  limit: Limit.optional().describe('1 to 1000; without it the answer is the whole list'),
  cursor: z.string().optional().describe('The nextCursor of the page before'),
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
        'The minute of the last verification that found it valid; absent while none is known. A verifier in another process reports once a minute',
      ),
    status: Status.describe(
      'unavailable: its history holds an event that cannot be read; it is never valid, but can be deleted',
    ),
    position: z.string().optional().describe('With asOf: of the event that made it so'),
    eventId: z.string().optional().describe('With asOf: of the same event'),
  })
  .meta({ id: 'ApiKey' });
const ApiKeyListResponse = z.object({
  success: z.literal(true),
  apiKeys: z.array(ApiKey),
  nextCursor: z.string().nullable().optional().describe('With a limit: where the next page begins, or null'),
});
const ApiKeyResponse = z.object({ success: z.literal(true), apiKey: ApiKey });

const tags = ['API keys'];

const readPermission = (query: object): Permission => ('asOf' in query ? 'as-of' : 'list');

export type AiApiKeyDependencies = CommandDependencies & { readonly lastUsedTracker: LastUsedTracker };

/** The calls on the keys of a repository. */
export const aiApiKeyRoutes =
  (dependencies: AiApiKeyDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, queries, clock, lastUsedTracker } = dependencies;

    app.post(
      '/repo/:repoId/ai/apikey',
      {
        config: { permission: 'change', failure: 'Failed to create API key' },
        schema: {
          operationId: 'createRepoAiApiKey',
          summary: 'Create an AI API key; its secret is in this answer only',
          tags,
          params: RepoParams,
          headers: IdempotencyHeaders,
          body: CreateBody,
          response: { 201: IssuedApiKey, ...errors },
        },
      },
      async (request, reply) => {
        const { name, aiType, expiresAt = null } = request.body;
        const { position, ...issued } = await createAiApiKey(commandContext(request, dependencies), {
          repoId: request.params.repoId,
          name,
          aiType,
          expiresAt,
          idempotencyKey: request.headers['idempotency-key'],
        });
        await awaitReadModel(reply, queries, position);
        return reply.code(201).send({ success: true, ...issued });
      },
    );

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
        const query = { includeDeleted, status, aiType, limit, after };
        const atLeast = parseMinPosition(request.headers, log);
        const answer = (apiKeys: z.infer<typeof ApiKey>[], nextCursor: string | null) =>
          limit === undefined
            ? { success: true as const, apiKeys }
            : { success: true as const, apiKeys, nextCursor };
        if (asOf !== undefined) {
          const { shown, next } = await listAsOf(request, reply, dependencies, { asOf, query, atLeast });
          return answer(shown, next);
        }
        const { items, next, staleness } = await queries.list(request.params.repoId, query, atLeast);
        reply.header('keyledger-staleness', staleness.toFixed(1));
        const lastUsed = await readLastUses(lastUsedTracker, items);
        const now = clock();
        return answer(
          items.map((item) => apiKeyResponse(item, lastUsed, now)),
          next,
        );
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
        const atLeast = parseMinPosition(request.headers, log);
        if (asOf !== undefined) {
          const asked = { asOf, apiKeyId: requireApiKeyId(apikeyId), include, atLeast };
          return { success: true as const, apiKey: await getAsOf(request, reply, dependencies, asked) };
        }
        const { item, staleness } = await queries.get(repoId, requireApiKeyId(apikeyId), atLeast);
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

    app.put(
      '/repo/:repoId/ai/apikey/:apikeyId',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'updateRepoAiApiKey',
          summary: 'Rename an AI API key, or move its expiry',
          tags,
          params: KeyParams,
          body: UpdateBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { changed, position } = await updateAiApiKey(commandContext(request, dependencies), {
          repoId,
          apiKeyId: requireApiKeyId(apikeyId),
          name: request.body?.name,
          expiresAt: request.body?.expiresAt,
        });
        await awaitReadModel(reply, queries, position);
        return { success: true as const, message: changed ? 'API key updated' : 'API key unchanged' };
      },
    );

    app.delete(
      '/repo/:repoId/ai/apikey/:apikeyId',
      {
        config: { permission: 'change', bypassQueue: true },
        schema: {
          operationId: 'deleteRepoAiApiKey',
          summary: 'Delete an AI API key for good',
          tags,
          params: KeyParams,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { position } = await deleteAiApiKey(commandContext(request, dependencies), {
          repoId,
          apiKeyId: requireApiKeyId(apikeyId),
        });
        await awaitReadModel(reply, queries, position);
        return { success: true as const, message: 'API key deleted' };
      },
    );
  };

const MINUTE_MS = 60_000;

/** When keys were last used; undefined if that cannot be told now. */
const readLastUses = (lastUsedTracker: LastUsedTracker, items: readonly ListItem[]) =>
  lastUsedTracker.lastUsed(items.map(({ apiKeyId }) => apiKeyId)).catch(() => undefined);

/** A key as a caller sees it at a time (milliseconds since 1970). */
function apiKeyResponse(item: ListItem, lastUsed: ReadonlyMap<string, number> | undefined, now: number) {
  const shown = apiKeyView(item, now);
  const used = lastUsed?.get(item.apiKeyId);
  if (used === undefined) return shown;
  // A clock that was ahead when the key was used.
  const at = Math.min(used, now);
  return { ...shown, lastUsedAt: new Date(at - (at % MINUTE_MS)).toISOString() };
}
