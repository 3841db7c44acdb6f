import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { revokeLeakedAiApiKey } from '../../../commands/api-keys/revoke-leaked-ai-api-key.js';
import { isAccessKey, isSecret } from '../../../security/credentials.js';
import { awaitReadModel, type CommandDependencies } from '../../command-context.js';
import { BODY_RULE, Done, errors, TEXT_RULE } from '../../schemas.js';

const RevokeBody = z.strictObject(
  {
    key: z.string(TEXT_RULE).describe('Access key, FB_AI_…'),
    secret: z.string(TEXT_RULE).describe('secret_…'),
  },
  BODY_RULE,
);
const SAME_ANSWER = { success: true as const, message: 'If this was an API key, it is one no longer' };

/** Whoever holds a credential may end it: who finds one need not know whose it is. */
export const revokeRoutes =
  (dependencies: CommandDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, queries, clock, onAppend } = dependencies;
    app.post(
      '/revoke',
      {
        schema: {
          operationId: 'revokeLeakedApiKey',
          summary:
            'Delete an API key that has leaked; its secret is proof enough, and the answer is always the same',
          tags: ['Verification'],
          security: [],
          body: RevokeBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { key: accessKey, secret } = request.body;
        if (!isAccessKey(accessKey) || !isSecret(secret)) return SAME_ANSWER;
        // This instance may not have seen the key yet, or the rotation that gave it this secret.
        const end = await log.end();
        await queries.awaitVerifyPosition(end);
        const key = queries.findBySecret(accessKey, secret);
        const { position } = key
          ? await revokeLeakedAiApiKey(
              { log, clock, onAppend, requestId: request.id },
              { repoId: key.repoId, apiKeyId: key.apiKeyId, secret },
            )
          : { position: end };
        await awaitReadModel(reply, queries, position);
        return SAME_ANSWER;
      },
    );
  };
