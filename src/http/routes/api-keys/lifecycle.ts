import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { resumeAiApiKey } from '../../../commands/api-keys/resume-ai-api-key.js';
import { rotateAiApiKey } from '../../../commands/api-keys/rotate-ai-api-key.js';
import { suspendAiApiKey } from '../../../commands/api-keys/suspend-ai-api-key.js';
import {
  awaitReadModel,
  type CommandDependencies,
  commandContext,
  requireApiKeyId,
} from '../../command-context.js';
import {
  BODY_RULE,
  Done,
  errors,
  IdempotencyHeaders,
  IssuedApiKey,
  KeyParams,
  OverlapSeconds,
  Text,
} from '../../schemas.js';

const RotateBody = z
  .strictObject(
    {
      overlapSeconds: OverlapSeconds.optional(),
    },
    BODY_RULE,
  )
  .nullish();
const SuspendBody = z
  .strictObject(
    {
      reason: Text.optional(),
    },
    BODY_RULE,
  )
  .nullish();
const tags = ['API keys'];

/** What becomes of a key between its creation and its deletion. */
export const lifecycleRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries } = dependencies;

    app.post(
      '/repo/:repoId/ai/apikey/:apikeyId/rotate',
      {
        config: { permission: 'change', failure: 'Failed to rotate API key' },
        schema: {
          operationId: 'rotateRepoAiApiKey',
          summary: 'Give an AI API key a new secret; it is in this answer only',
          tags,
          params: KeyParams,
          headers: IdempotencyHeaders,
          body: RotateBody,
          response: { 200: IssuedApiKey, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { position, ...issued } = await rotateAiApiKey(commandContext(request, dependencies), {
          repoId,
          apiKeyId: requireApiKeyId(apikeyId),
          overlapSeconds: request.body?.overlapSeconds ?? 0,
          idempotencyKey: request.headers['idempotency-key'],
        });
        await awaitReadModel(reply, queries, position);
        return { success: true as const, ...issued };
      },
    );

    app.post(
      '/repo/:repoId/ai/apikey/:apikeyId/suspend',
      {
        config: { permission: 'change', bypassQueue: true },
        schema: {
          operationId: 'suspendRepoAiApiKey',
          summary: 'Suspend an AI API key until it is resumed',
          tags,
          params: KeyParams,
          body: SuspendBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { changed, position } = await suspendAiApiKey(commandContext(request, dependencies), {
          repoId,
          apiKeyId: requireApiKeyId(apikeyId),
          reason: request.body?.reason || null,
        });
        await awaitReadModel(reply, queries, position);
        return {
          success: true as const,
          message: changed ? 'API key suspended' : 'API key was suspended already',
        };
      },
    );

    app.post(
      '/repo/:repoId/ai/apikey/:apikeyId/resume',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'resumeRepoAiApiKey',
          summary: 'End the suspension of an AI API key',
          tags,
          params: KeyParams,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { repoId, apikeyId } = request.params;
        const { changed, position } = await resumeAiApiKey(commandContext(request, dependencies), {
          repoId,
          apiKeyId: requireApiKeyId(apikeyId),
        });
        await awaitReadModel(reply, queries, position);
        return { success: true as const, message: changed ? 'API key resumed' : 'API key was not suspended' };
      },
    );
  };
