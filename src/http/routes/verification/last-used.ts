import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { permits } from '../../../domain/authorization.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { EpochMs } from '../../../domain/time.js';
import type { EventStore } from '../../../event-store/event-store.js';
import type { LastUse } from '../../../last-used/last-used-store.js';
import type { LastUsedTracker } from '../../../last-used/last-used-tracker.js';
import type { Projector } from '../../../projections/projector.js';
import type { Queries } from '../../../projections/queries.js';
import { parseMinPosition } from '../../command-context.js';
import { callerOf } from '../../plugins/auth.js';
import { BODY_RULE, callerTime, Done, errors, ReadHeaders } from '../../schemas.js';

/** More do not fit into a body of 16 KiB. */
const MAX_KEYS = 200;
const KEYS_RULE = `must be a list of at most ${MAX_KEYS} keys, each an id and the time of its last use`;
const AT_RULE = 'must be a time with its zone, such as 2030-01-31T12:00:00Z';

const ReportedUse = z.strictObject({
  id: z.string(KEYS_RULE).toLowerCase().describe('Id of the key'),
  at: callerTime(AT_RULE).describe('Time of its last use; the future counts as now'),
});
const LastUsedBody = z.strictObject({ keys: z.array(ReportedUse, KEYS_RULE).max(MAX_KEYS, KEYS_RULE) }, BODY_RULE);

type LastUsedDependencies = {
  readonly log: EventStore;
  readonly projector: Projector;
  readonly queries: Queries;
  readonly lastUsedTracker: LastUsedTracker;
  readonly clock: () => EpochMs;
};

/** Verifiers in other processes report here when they last found keys valid, for `lastUsedAt`. */
export const lastUsedRoutes =
  ({ log, projector, queries, lastUsedTracker, clock }: LastUsedDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    app.post(
      '/replica/last-used',
      {
        config: { permission: 'replica' },
        schema: {
          operationId: 'reportLastUsed',
          summary: 'Report when a verifier last found keys valid',
          description:
            'The service keeps the latest time of each key, and ignores unknown keys and keys of repositories that the token may not follow.',
          tags: ['Verification'],
          headers: ReadHeaders,
          body: LastUsedBody,
          response: { 200: Done, ...errors },
        },
      },
      async (request) => {
        const caller = callerOf(request);
        // An instance that has not seen a key yet would ignore its use.
        await queries.requireIndexPosition(parseMinPosition(request.headers, log));
        const now = clock();
        const mayReport = (id: string) => {
          const key = projector.store.keys.get(id)?.key;
          return key !== undefined && permits(caller, key.repoId, 'replica');
        };
        const uses = request.body.keys.flatMap(({ id, at }): LastUse[] =>
          mayReport(id) ? [[id, Math.min(Date.parse(at), now)]] : [],
        );
        await lastUsedTracker.report(uses).catch((cause) => {
          throw new KeyledgerError('UNAVAILABLE', { cause });
        });
        return { success: true as const, message: 'Last uses recorded' };
      },
    );
  };
