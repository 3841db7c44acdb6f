import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { permits } from '../../../domain/authorization.js';
import type { EventStore } from '../../../event-store/event-store.js';
import { parsePosition } from '../../../event-store/position.js';
import type { LastUsedTracker } from '../../../last-used/last-used-tracker.js';
import type { Queries } from '../../../projections/queries.js';
import { INVALID_REASONS } from '../../../projections/verify.js';
import { callerOf } from '../../plugins/auth.js';
import { AiType, BODY_RULE, errors, ReadHeaders, TEXT_RULE } from '../../schemas.js';

const VerifyBody = z.strictObject(
  {
    key: z.string(TEXT_RULE).describe('Access key, FB_AI_…'),
    secret: z.string(TEXT_RULE).describe('secret_…'),
    repoId: z.string(TEXT_RULE).optional().describe('Good for this repository only'),
    aiType: AiType.optional().describe('Good for this provider only'),
  },
  BODY_RULE,
);

const Valid = z.object({
  success: z.literal(true),
  valid: z.literal(true),
  apiKey: z.object({
    id: z.uuid(),
    repoId: z.string(),
    name: z.string(),
    aiType: AiType,
    expiresAt: z.iso.datetime().nullable(),
  }),
  position: z.string().describe('How far in the log this verdict has seen'),
});
const Invalid = z.object({
  success: z.literal(true),
  valid: z.literal(false),
  reason: z.enum(INVALID_REASONS).describe('The first of these that applies'),
});

type VerifyRequest = FastifyRequest<{ Body: z.infer<typeof VerifyBody> }>;

export type VerifyDependencies = {
  readonly log: EventStore;
  readonly queries: Queries;
  readonly lastUsedTracker: LastUsedTracker;
  readonly clock: () => number;
};

/** Is a credential good? For gateways that hold a token of a verifier. */
export const verifyRoutes =
  ({ log, queries, lastUsedTracker, clock }: VerifyDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const answer = (request: VerifyRequest, reply: FastifyReply): void => {
      const { key: accessKey, secret, repoId, aiType } = request.body;
      const caller = callerOf(request);
      const sees = (repo: string) => permits(caller, repo, 'verify');
      const verdict = queries.verify({ accessKey, secret, repoId, aiType, sees });
      if (!verdict.valid) {
        reply.send({ success: true, valid: false, reason: verdict.reason });
        return;
      }

      const { apiKeyId: id, repoId: of, name, aiType: provider, expiresAt } = verdict.key;
      lastUsedTracker.record(id, clock());
      const apiKey = { id, repoId: of, name, aiType: provider, expiresAt };
      reply.send({ success: true, valid: true, apiKey, position: queries.verifiedPosition });
    };

    app.post(
      '/verify',
      {
        config: { permission: 'verify' },
        schema: {
          operationId: 'verifyApiKey',
          summary: 'Is this API key good?',
          tags: ['Verification'],
          headers: ReadHeaders,
          body: VerifyBody,
          response: { 200: z.discriminatedUnion('valid', [Valid, Invalid]), ...errors },
        },
      },
      (request, reply) => {
        const minimum = request.headers['keyledger-min-position'];
        if (minimum === undefined) return answer(request, reply);
        return queries
          .awaitVerifyPosition(parsePosition(minimum, log.logId))
          .then(() => answer(request, reply));
      },
    );
  };
