import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { handleApiKeyCommand } from '../../../commands/aggregates.js';
import { createAiApiKey } from '../../../commands/api-keys/create-ai-api-key.js';
import { rotateAiApiKey } from '../../../commands/api-keys/rotate-ai-api-key.js';
import type { ApiKeyCommand, ApiKeyRef } from '../../../domain/ai-api-key.js';
import { type CommandDependencies, requireApiKeyId } from '../../command-context.js';
import { changes, mutations } from '../../mutation.js';
import {
  AiType,
  BODY_RULE,
  ExpiresAt,
  IssuedApiKey,
  KeyParams,
  Name,
  OverlapSeconds,
  RepoParams,
  Text,
} from '../../schemas.js';

const CreateBody = z.strictObject({ name: Name, aiType: AiType, expiresAt: ExpiresAt.optional() }, BODY_RULE);
const UpdateBody = z.strictObject({ name: Name.optional(), expiresAt: ExpiresAt.optional() }, BODY_RULE).nullish();
const RotateBody = z.strictObject({ overlapSeconds: OverlapSeconds.optional() }, BODY_RULE).nullish();
const SuspendBody = z.strictObject({ reason: Text.optional() }, BODY_RULE).nullish();

/** The calls that change the API keys of a repository. */
export const apiKeyCommandRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { queries } = dependencies;
    const mutation = mutations(app, dependencies, {
      tags: ['API keys'],
      awaitProjection: (position) => queries.awaitReadModel(position),
    });
    const change = changes(mutation, {
      params: KeyParams,
      toRef: ({ repoId, apikeyId }): ApiKeyRef => ({ repoId, apiKeyId: requireApiKeyId(apikeyId) }),
      handle: (context, ref, command: ApiKeyCommand) => handleApiKeyCommand(context, ref.apiKeyId, command),
    });

    mutation(
      {
        method: 'POST',
        url: '/repo/:repoId/ai/apikey',
        config: { failure: 'Failed to create API key' },
        operationId: 'createRepoAiApiKey',
        summary: 'Create an AI API key; only this answer holds its secret',
        params: RepoParams,
        body: CreateBody,
        idempotent: true,
        success: { status: 201, schema: IssuedApiKey },
      },
      ({ context, params, body, idempotencyKey }) =>
        createAiApiKey(context, { ...params, ...body, expiresAt: body.expiresAt ?? null, idempotencyKey }),
    );

    change(
      {
        method: 'PUT',
        url: '/repo/:repoId/ai/apikey/:apikeyId',
        operationId: 'updateRepoAiApiKey',
        summary: 'Rename an AI API key, or change its expiry',
        body: UpdateBody,
      },
      (ref, body) => ({ type: 'UpdateAiApiKey', ...ref, ...body }),
      { appended: 'API key updated', unchanged: 'API key unchanged' },
    );

    change(
      {
        method: 'DELETE',
        url: '/repo/:repoId/ai/apikey/:apikeyId',
        config: { bypassQueue: true },
        operationId: 'deleteRepoAiApiKey',
        summary: 'Delete an AI API key permanently',
      },
      (ref) => ({ type: 'DeleteAiApiKey', ...ref }),
      { appended: 'API key deleted', unchanged: 'API key deleted' },
    );

    mutation(
      {
        method: 'POST',
        url: '/repo/:repoId/ai/apikey/:apikeyId/rotate',
        config: { failure: 'Failed to rotate API key' },
        operationId: 'rotateRepoAiApiKey',
        summary: 'Give an AI API key a new secret; only this answer holds it',
        params: KeyParams,
        body: RotateBody,
        idempotent: true,
        success: { status: 200, schema: IssuedApiKey },
      },
      ({ context, params: { repoId, apikeyId }, body, idempotencyKey }) => {
        const apiKeyId = requireApiKeyId(apikeyId);
        const overlapSeconds = body?.overlapSeconds ?? 0;
        return rotateAiApiKey(context, { repoId, apiKeyId, overlapSeconds, idempotencyKey });
      },
    );

    change(
      {
        method: 'POST',
        url: '/repo/:repoId/ai/apikey/:apikeyId/suspend',
        config: { bypassQueue: true },
        operationId: 'suspendRepoAiApiKey',
        summary: 'Suspend an AI API key until it is resumed',
        body: SuspendBody,
      },
      (ref, body) => ({ type: 'SuspendAiApiKey', ...ref, reason: body?.reason || null }),
      { appended: 'API key suspended', unchanged: 'API key was suspended already' },
    );

    change(
      {
        method: 'POST',
        url: '/repo/:repoId/ai/apikey/:apikeyId/resume',
        operationId: 'resumeRepoAiApiKey',
        summary: 'End the suspension of an AI API key',
      },
      (ref) => ({ type: 'ResumeAiApiKey', ...ref }),
      { appended: 'API key resumed', unchanged: 'API key was not suspended' },
    );
  };
