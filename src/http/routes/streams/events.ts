import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { KeyledgerError } from '../../../domain/errors.js';
import type { CloudEvent } from '../../../event-store/cloud-event.js';
import type { Position } from '../../../event-store/position.js';
import { type FeedBatch, readFeed } from '../../../subscribers/feed.js';
import { callerOf } from '../../plugins/auth.js';
import { EventTypes, errors, Limit, RepoParams } from '../../schemas.js';
import { EventStream, formatMessage, type StreamBatch } from '../../sse/event-stream.js';
import { heartbeatSource, repositoryFilter, resolveStart, type StreamDependencies } from '../../sse/subscription.js';

const HEARTBEAT_MS = 15_000;
const DEFAULT_LIMIT = 100;

const Event = z
  .object({
    specversion: z.literal('1.0'),
    id: z.string(),
    source: z.string().describe('The log, as a URN'),
    type: z.string(),
    subject: z.string().optional().describe('Id of the API key or webhook'),
    time: z.iso.datetime().describe('When it occurred'),
    datacontenttype: z.literal('application/json'),
    position: z.string(),
    data: z.looseObject({ repoId: z.string().nullable() }),
  })
  .meta({ id: 'CloudEvent' });
const EventPage = z.object({
  success: z.literal(true),
  events: z.array(Event),
  next: z
    .string()
    .describe('Send it as `after` for the next page. A page with fewer events than its limit was the last one for now'),
});

const EventQuery = z.strictObject({
  after: z
    .string()
    .optional()
    .describe(
      'Events after this resume token or position; `start`: all events; without it, and without a Last-Event-ID: events from now on',
    ),
  repo: RepoParams.shape.repoId.optional().describe('Events of this repository only'),
  type: EventTypes.optional().describe(
    'Types of events, separated by commas; without it all but AuditAccessed, which reading the audit causes',
  ),
  limit: Limit.optional().describe(`Events per page: 1 to 1000; without it ${DEFAULT_LIMIT}`),
});
const EventHeaders = z.object({
  'last-event-id': z
    .string()
    .optional()
    .describe('As `after`, and takes precedence over it; EventSource sends it by itself'),
});

/** The change feed: as server-sent events, or in pages. */
export const eventRoutes =
  (dependencies: StreamDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { projector, clock, stopping } = dependencies;

    app.get(
      '/events',
      {
        exposeHeadRoute: false,
        config: { permission: 'feed', longLived: true },
        schema: {
          operationId: 'getEvents',
          summary: 'Follow every event of your repositories, as CloudEvents 1.0: a stream, or pages of JSON',
          description: DESCRIPTION,
          tags: ['Events'],
          querystring: EventQuery,
          headers: EventHeaders,
          response: { 200: EventPage, ...errors },
        },
      },
      async (request, reply) => {
        const { after, repo, type, limit } = request.query;
        const caller = callerOf(request);
        const canSee = repositoryFilter(caller, 'feed', repo);
        const start = await resolveStart(dependencies, request.headers['last-event-id'] ?? after);
        const query = { after: start.after, canSee, types: type && new Set(type) };
        if (prefersJson(request.headers.accept)) {
          const closed = new AbortController();
          reply.raw.once('close', () => closed.abort());
          const feed = readFeed(projector, query, closed.signal);
          const { events, position } = await readPage(feed, limit ?? DEFAULT_LIMIT, start.end);
          return { success: true as const, events, next: await projector.tail.resumeTokenAt(position) };
        }
        if (limit !== undefined) throw new KeyledgerError('INVALID_INPUT', { message: LIMIT_RULE });
        const stream = new EventStream(reply, caller.expiresAt - clock(), stopping);
        await stream.follow(
          feedBatches(readFeed(projector, query, stream.signal)),
          heartbeatSource(projector, HEARTBEAT_MS),
        );
        return reply;
      },
    );
  };

const DESCRIPTION = `As text/event-stream the answer has no end. The id of each message is a resume token. \`caught-up\` comes once, \
after all existing events; \`heartbeat\` comes at the start and every 15 seconds, and its id is the resume token \
that the stream has reached, past events that are not for you; \`end\` says why the stream ends. With \`Accept: application/json\` the same \
events come in pages. The expiry of an API key is no event: ApiKeyCreated and ApiKeyExpiryChanged carry \`expiresAt\`.`;
const LIMIT_RULE = 'limit: applies to pages only; request them with Accept: application/json';

const prefersJson = (accept = ''): boolean => {
  const types = accept.split(',').map((range) => range.split(';')[0]?.trim().toLowerCase());
  return types.includes('application/json') && !types.includes('text/event-stream');
};

/** The next events, fewer than the limit only if there are no more up to the end. */
async function readPage(feed: AsyncIterable<FeedBatch>, limit: number, end: Position) {
  const page: CloudEvent[] = [];
  for await (const { events, position } of feed) {
    for (const { event, position } of events) {
      page.push(event);
      if (page.length === limit) return { events: page, position };
    }
    if (position >= end) return { events: page, position };
  }
  throw new KeyledgerError('UNAVAILABLE');
}

async function* feedBatches(feed: AsyncIterable<FeedBatch>): AsyncGenerator<StreamBatch> {
  for await (const { events, position, caughtUp } of feed) {
    yield {
      messages: events.map(({ event, json }) => formatMessage({ id: event.position, data: json })),
      position,
      caughtUp,
    };
  }
}
