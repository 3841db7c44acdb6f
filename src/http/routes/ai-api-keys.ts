import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { createAiApiKey } from '../../commands/create-ai-api-key.js';
import { deleteAiApiKey } from '../../commands/delete-ai-api-key.js';
import type { AppendOutcome, CommandContext } from '../../commands/handle-command.js';
import { renameAiApiKey } from '../../commands/rename-ai-api-key.js';
import { AI_TYPES, isApiKeyId } from '../../domain/ai-api-key.js';
import { KeyledgerError } from '../../domain/errors.js';
import type { EventStore } from '../../event-store/event-store.js';
import { type Position, parsePosition } from '../../event-store/position.js';
import type { ListItem } from '../../projections/list.js';
import type { Projector } from '../../projections/projector.js';
import type { Keyring } from '../../security/keyring.js';
import { callerOf } from '../auth.js';
import { ErrorEnvelope } from '../errors.js';

const REPO_ID_RULE = 'must be 1 to 128 of letters, digits, ".", "_", "~" and "-", but not "." or ".."';
const NAME_RULE = 'must be text of 1 to 200 characters after trimming, without control characters';
const IDEMPOTENCY_RULE = 'must be 1 to 255 printable ASCII characters';

const RepoParams = z.object({
  repoId: z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/, REPO_ID_RULE),
});
const KeyParams = RepoParams.extend({ apikeyId: z.string() });
const Name = z
  .string(NAME_RULE)
  .regex(/^[^\p{Cc}\p{Cs}]*$/u, NAME_RULE)
  .trim()
  .refine((name) => name !== '' && [...name].length <= 200, NAME_RULE);
const AiType = z.enum(AI_TYPES, `must be one of ${AI_TYPES.join(', ')}`);
const BODY_RULE = 'must be a JSON object';

const CreateBody = z.object({ name: Name, aiType: AiType }, BODY_RULE);
const RenameBody = z.object({ name: Name.optional() }, BODY_RULE).nullish();
const CreateHeaders = z.looseObject({
  'idempotency-key': z
    .string()
    .regex(/^[\x20-\x7e]{1,255}$/, IDEMPOTENCY_RULE)
    .optional()
    .describe('Makes a retry safe: the same request with the same key creates one API key and answers alike'),
});
const ReadHeaders = z.looseObject({
  'keyledger-min-position': z
    .string()
    .optional()
    .describe('A Keyledger-Position: answer from a state that holds it, or with 503 BEHIND after a second'),
});

const Created = z.object({
  success: z.literal(true),
  id: z.uuid(),
  key: z.string().describe('Access key, FB_AI_…'),
  secret: z.string().describe('secret_…; it is never shown again'),
});
const Done = z.object({ success: z.literal(true), message: z.string() });
const ApiKey = z
  .object({
    id: z.uuid(),
    name: z.string(),
    repoId: z.string(),
    key: z.string().describe('Access key, FB_AI_…'),
    aiType: AiType,
    createdAt: z.iso.datetime(),
    deletedAt: z.iso.datetime().nullable(),
    status: z
      .enum(['active', 'deleted', 'unavailable'])
      .describe(
        'unavailable: its history holds an event that cannot be read; it is never valid, but can be deleted',
      ),
  })
  .meta({ id: 'ApiKey' });
const Listed = z.object({ success: z.literal(true), apiKeys: z.array(ApiKey) });

const errors = { '4xx': ErrorEnvelope, '5xx': ErrorEnvelope };
const tags = ['API keys'];

export type AiApiKeyDependencies = {
  readonly log: EventStore;
  readonly keyring: Keyring;
  readonly projector: Projector;
  readonly clock: () => number;
  readonly onAppend: (outcome: AppendOutcome) => void;
};

/** The four calls on the keys of a repository. */
export const aiApiKeyRoutes =
  ({ log, keyring, projector, clock, onAppend }: AiApiKeyDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const context = (request: FastifyRequest): CommandContext => {
      const { issuer, subject } = callerOf(request);
      return { log, clock, onAppend, actor: { issuer, subject }, requestId: request.id };
    };

    /** A mutation waits for its own projection; whether that comes in time changes nothing of its success. */
    const settle = async (reply: FastifyReply, position: Position) => {
      reply.header('keyledger-position', position);
      await projector.waitFor(position);
    };

    app.post(
      '/repo/:repoId/ai/apikey',
      {
        config: { permission: 'change', failure: 'Failed to create API key' },
        schema: {
          operationId: 'createRepoAiApiKey',
          summary: 'Create an AI API key; its secret is in this answer only',
          tags,
          params: RepoParams,
          headers: CreateHeaders,
          body: CreateBody,
          response: { 201: Created, ...errors },
        },
      },
      async (request, reply) => {
        const { position, ...created } = await createAiApiKey(
          { ...context(request), keyring },
          {
            repoId: request.params.repoId,
            ...request.body,
            idempotencyKey: request.headers['idempotency-key'],
          },
        );
        await settle(reply, position);
        return reply.code(201).send({ success: true, ...created });
      },
    );

    app.get(
      '/repo/:repoId/ai/apikey',
      {
        config: { permission: 'list' },
        schema: {
          operationId: 'getRepoAiApiKeys',
          summary: 'List the AI API keys of a repository, newest first',
          tags,
          params: RepoParams,
          headers: ReadHeaders,
          response: { 200: Listed, ...errors },
        },
      },
      async (request, reply) => {
        const minimum = request.headers['keyledger-min-position'];
        const atLeast = minimum === undefined ? undefined : parsePosition(minimum, log.logId);
        const items = await projector.list(request.params.repoId, atLeast);
        reply.header('keyledger-staleness', projector.staleness.toFixed(1));
        return { success: true as const, apiKeys: items.map(shown) };
      },
    );

    app.put(
      '/repo/:repoId/ai/apikey/:apikeyId',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'updateRepoAiApiKey',
          summary: 'Rename an AI API key',
          tags,
          params: KeyParams,
          body: RenameBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { changed, position } = await renameAiApiKey(context(request), {
          repoId,
          apiKeyId: known(apikeyId),
          name: request.body?.name,
        });
        await settle(reply, position);
        return { success: true as const, message: changed ? 'API key updated' : 'API key unchanged' };
      },
    );

    app.delete(
      '/repo/:repoId/ai/apikey/:apikeyId',
      {
        config: { permission: 'change' },
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
        const { position } = await deleteAiApiKey(context(request), { repoId, apiKeyId: known(apikeyId) });
        await settle(reply, position);
        return { success: true as const, message: 'API key deleted' };
      },
    );
  };

/** @throws KeyledgerError KEY_NOT_FOUND: an id that cannot be one */
function known(apikeyId: string): string {
  if (!isApiKeyId(apikeyId)) throw new KeyledgerError('KEY_NOT_FOUND');
  return apikeyId;
}

const shown = ({ apiKeyId, name, repoId, accessKey, aiType, createdAt, deletedAt, status }: ListItem) => ({
  id: apiKeyId,
  name,
  repoId,
  key: accessKey,
  aiType,
  createdAt,
  deletedAt,
  status,
});
