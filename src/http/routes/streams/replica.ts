import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type ReplicaBatch, readReplica, replicaScope } from '../../../subscribers/replica.js';
import { callerOf } from '../../plugins/auth.js';
import { errors } from '../../schemas.js';
import { EventStream, formatMessage, type HeartbeatSource, type StreamBatch } from '../../sse/event-stream.js';
import { heartbeatSource, repositoryFilter, resolveStart, type StreamDependencies } from '../../sse/subscription.js';

/** Verifiers learn from heartbeats how stale their copies are. */
const HEARTBEAT_MS = 900;

const ReplicaQuery = z.strictObject({
  after: z.string().optional().describe('Changes after this position; without it a snapshot first'),
});
const ReplicaHeaders = z.object({
  'last-event-id': z.string().optional().describe('As `after`, and takes precedence over it'),
});

/** The replica that in-process verifiers follow: the only route by which hashes of secrets leave the service. */
export const replicaRoutes =
  (dependencies: StreamDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { projector, clock, stopping } = dependencies;

    app.get(
      '/replica',
      {
        exposeHeadRoute: false,
        config: { permission: 'replica', longLived: true },
        schema: {
          operationId: 'getReplica',
          summary:
            'Follow what decides whether credentials of your repositories are valid: a snapshot, then its changes',
          description: DESCRIPTION,
          tags: ['Events'],
          querystring: ReplicaQuery,
          headers: ReplicaHeaders,
          response: { 200: z.string().describe('text/event-stream'), ...errors },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        const startText = request.headers['last-event-id'] ?? request.query.after ?? 'start';
        const { after } = await resolveStart(dependencies, startText);
        const stream = new EventStream(reply, caller.expiresAt - clock(), stopping);
        const begin = JSON.stringify({ scope: replicaScope(caller), snapshot: after === undefined });
        await stream.send(formatMessage({ event: 'begin', data: begin }));
        const query = { after, canSee: repositoryFilter(caller, 'replica', undefined) };
        const heartbeats = heartbeatSource(projector, HEARTBEAT_MS);
        await stream.follow(replicaBatches(readReplica(projector, query, stream.signal), heartbeats), heartbeats);
        return reply;
      },
    );
  };

const DESCRIPTION = `\`begin\` carries \`snapshot\` (does a snapshot follow, or only changes?) and \`scope\`: if it differs \
from the last one, you may follow other repositories than before, and need a snapshot. \`keys\` is a list of keys as they \
are now; each replaces the one with its \`apiKeyId\`, and a deleted one stays, with its status. \`caught-up\`, \
\`heartbeat\` (every second) and \`end\` are as in /events; \`staleness\` is the number of seconds for which the service \
has not known whether the log holds more, and \`elapsed\` the age of this answer in seconds at that moment.`;

async function* replicaBatches(
  batches: AsyncIterable<ReplicaBatch>,
  { resumeTokenAt }: HeartbeatSource,
): AsyncGenerator<StreamBatch> {
  for await (const { keys, position, caughtUp } of batches) {
    const messages: string[] = [];
    if (keys.length > 0) {
      const id = position && { id: await resumeTokenAt(position) };
      messages.push(formatMessage({ event: 'keys', ...id, data: JSON.stringify(keys) }));
    }
    yield { messages, position, caughtUp };
  }
}
