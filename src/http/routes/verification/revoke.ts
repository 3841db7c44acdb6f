import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { revokeLeakedAiApiKey } from '../../../commands/api-keys/revoke-leaked-ai-api-key.js';
import type { CommandDependencies } from '../../command-context.js';
import { BODY_RULE, Done, errors, TEXT_RULE } from '../../schemas.js';

const RevokeBody = z.strictObject(
  {
    key: z.string(TEXT_RULE).describe('Access key, FB_AI_…'),
    secret: z.string(TEXT_RULE).describe('secret_…'),
  },
  BODY_RULE,
);
const SAME_ANSWER = { success: true as const, message: 'If this was a valid API key, it is now deleted' };

/** Any caller that holds a secret may revoke its API key, without a token: a finder need not know the owner. */
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
            'Delete an API key that has leaked; its secret is the only proof needed, and the answer is always the same',
          tags: ['Verification'],
          security: [],
          body: RevokeBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request, reply) => {
        const { key: accessKey, secret } = request.body;
        const position = await revokeLeakedAiApiKey(
          { log, clock, onAppend, requestId: request.id },
          (credential, minPosition) => queries.findBySecret(credential, minPosition),
          { accessKey, secret },
        );
        if (position === undefined) return SAME_ANSWER;
        reply.header('keyledger-position', position);
        await queries.awaitReadModel(position);
        return SAME_ANSWER;
      },
    );
  };
