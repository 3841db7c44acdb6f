import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type ReplicaPage, readReplica, replicaScope } from '../../../subscribers/replica.js';
import { callerOf } from '../../plugins/auth.js';
import { errors } from '../../schemas.js';
import { EventStream, formatMessage, type HeartbeatSource, type StreamPage } from '../../sse/event-stream.js';
import {
  heartbeatSource,
  repositoryFilter,
  resolveStart,
  type StreamDependencies,
} from '../../sse/subscription.js';

/** A verifier elsewhere knows by it how old what it has may be. */
const HEARTBEAT_MS = 900;

const ReplicaQuery = z.strictObject({
  after: z.string().optional().describe('The changes behind this position; without it everything'),
});
const ReplicaHeaders = z.object({
  'last-event-id': z.string().optional().describe('As `after`, before which it goes'),
});

/** What an in-process verifier follows: the one place where hashes of secrets leave the service. */
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
            'What decides whether credentials of your repositories are good: a snapshot, then its changes',
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
        const query = { after, sees: repositoryFilter(caller, 'replica', undefined) };
        const heartbeats = heartbeatSource(projector, HEARTBEAT_MS);
        await stream.follow(
          replicaPages(readReplica(projector, query, stream.signal), heartbeats),
          heartbeats,
        );
        return reply;
      },
    );
  };

const DESCRIPTION = `\`begin\` says with \`snapshot\` whether everything follows or only changes, and a \`scope\`: if it is \
another than the last time, the repositories that you may follow are others, and you need a snapshot. \`keys\` is a list of \
keys as they are now, each to take the place of the one with its \`apiKeyId\`; a deleted one stays, with its status. \
\`caught-up\`, \`heartbeat\` (every second) and \`end\` as in /events; \`staleness\` is for how many seconds the service had \
not known whether there is more, and \`elapsed\` how many seconds after the beginning of this answer that was.`;

async function* replicaPages(
  pages: AsyncIterable<ReplicaPage>,
  { resumeTokenAt }: HeartbeatSource,
): AsyncGenerator<StreamPage> {
  for await (const { keys, position, caughtUp } of pages) {
    const messages: string[] = [];
    if (keys.length > 0) {
      const id = position && { id: await resumeTokenAt(position) };
      messages.push(formatMessage({ event: 'keys', ...id, data: JSON.stringify(keys) }));
    }
    yield { messages, position, caughtUp };
  }
}
