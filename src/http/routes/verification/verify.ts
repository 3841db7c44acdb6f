import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { permits } from '../../../domain/authorization.js';
import type { EpochMs } from '../../../domain/time.js';
import type { EventStore } from '../../../event-store/event-store.js';
import type { LastUsedTracker } from '../../../last-used/last-used-tracker.js';
import type { Queries } from '../../../projections/queries.js';
import { INVALID_REASONS } from '../../../projections/verify.js';
import { parseMinPosition } from '../../command-context.js';
import { callerOf } from '../../plugins/auth.js';
import { AiType, BODY_RULE, errors, ReadHeaders, TEXT_RULE } from '../../schemas.js';

const VerifyBody = z.strictObject(
  {
    key: z.string(TEXT_RULE).describe('Access key, FB_AI_…'),
    secret: z.string(TEXT_RULE).describe('secret_…'),
    repoId: z.string(TEXT_RULE).optional().describe('Valid for this repository only'),
    aiType: AiType.optional().describe('Valid for this provider only'),
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
  position: z.string().describe('Position in the log that the result is based on'),
});
const Invalid = z.object({
  success: z.literal(true),
  valid: z.literal(false),
  reason: z.enum(INVALID_REASONS).describe('The first of these that applies'),
});

export type VerifyDependencies = {
  readonly log: EventStore;
  readonly queries: Queries;
  readonly lastUsedTracker: LastUsedTracker;
  readonly clock: () => EpochMs;
};

/** Verifies credentials, for gateways that hold the token of a verifier. */
export const verifyRoutes =
  ({ log, queries, lastUsedTracker, clock }: VerifyDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    app.post(
      '/verify',
      {
        config: { permission: 'verify' },
        schema: {
          operationId: 'verifyApiKey',
          summary: 'Verify an API key',
          tags: ['Verification'],
          headers: ReadHeaders,
          body: VerifyBody,
          response: { 200: z.discriminatedUnion('valid', [Valid, Invalid]), ...errors },
        },
      },
      async (request) => {
        const { key: accessKey, secret, repoId, aiType } = request.body;
        const caller = callerOf(request);
        const canSee = (repo: string) => permits(caller, repo, 'verify');
        const minPosition = parseMinPosition(request.headers, log);
        const { result, position } = await queries.verify({ accessKey, secret, repoId, aiType, canSee }, minPosition);
        if (!result.valid) return { success: true as const, valid: false as const, reason: result.reason };

        const { apiKeyId: id, repoId: of, name, aiType: provider, expiresAt } = result.key;
        lastUsedTracker.record(id, clock());
        const apiKey = { id, repoId: of, name, aiType: provider, expiresAt };
        return { success: true as const, valid: true as const, apiKey, position: position ?? '' };
      },
    );
  };
