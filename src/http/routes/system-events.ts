import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { entriesOf } from '../../audit/entries.js';
import type { HistoryEntry } from '../../audit/tell.js';
import { recordAccess } from '../../commands/record-access.js';
import { permits } from '../../domain/access.js';
import { API_KEY_EVENTS, type ApiKeyEvent } from '../../domain/ai-api-key.js';
import type { JournalLine } from '../../projections/journal.js';
import { callerOf } from '../auth.js';
import { type ChangeDependencies, contextOf } from '../changes.js';
import { BODY_RULE, errors, given, TEXT_RULE } from '../schemas.js';

/** What the existing API calls an AI API key, and any API key. */
const OUR_CONTEXTS = [12, 6];
const CONTEXT = 'aillmapikey';
const WORDS = ['created', 'updated', 'deleted'] as const;
const wordOf = (type: string): (typeof WORDS)[number] =>
  type === 'ApiKeyCreated' ? 'created' : type === 'ApiKeyDeleted' ? 'deleted' : 'updated';

const TIME_RULE = 'must be a time with its zone, such as 2030-01-31T12:00:00Z, or milliseconds since 1970';
const NUMBER_RULE = 'must be a whole number';
const SKIP_RULE = 'must be a whole number from 0 on';
const TAKE_RULE = 'must be a whole number from 1 to 1000';

const Time = z
  .union([z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)), z.int()], TIME_RULE)
  .nullish();
const Code = z.int(NUMBER_RULE).nullish();
const Text = z.string(TEXT_RULE).nullish();
const SystemEventsBody = z.strictObject(
  {
    from_timestamp: Time.describe('What occurred then or later'),
    to_timestamp: Time.describe('What occurred then or before'),
    contextId: Code.describe('12 (AI API keys) or 6 (any API keys); anything else selects nothing'),
    context: Code.describe('The same'),
    event: Code.describe('0 created, 1 updated, 2 deleted; anything else selects nothing'),
    userId: Text.describe('Subject of who did it'),
    workspaceId: Text.describe('No event has one: any selects nothing'),
    showUnread: z.boolean('must be true or false').nullish().describe('Without effect'),
    skip: z.int(SKIP_RULE).min(0, SKIP_RULE),
    take: z.int(TAKE_RULE).min(1, TAKE_RULE).max(1000, TAKE_RULE),
  },
  BODY_RULE,
);

const SystemEvent = z
  .object({
    id: z.int().describe('Stays the same for ever'),
    timestamp: z.iso.datetime(),
    contextId: z.string().describe('Id of the API key'),
    context: z.literal(CONTEXT),
    event: z.enum(WORDS),
    orgId: z.string(),
    userId: z.string(),
    userName: z.string(),
    userEmail: z.string(),
    workspaceId: z.string().nullable(),
    jsonData: z
      .string()
      .nullable()
      .describe('JSON: the repository, the type of the event, and what it changed'),
    showUnread: z.boolean(),
  })
  .meta({ id: 'SystemEvent' });
const SystemEvents = z.object({
  events: z.array(SystemEvent),
  total: z.int().describe('How many there are, before skip and take'),
  skip: z.int(),
  take: z.int(),
});

/** The events of API keys as clients of the existing API ask for them. */
export const systemEventRoutes =
  (dependencies: ChangeDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, reads } = dependencies;
    app.post(
      '/systemevent',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getSystemEvents',
          summary: 'Events of all repositories that the caller may audit, newest first',
          tags: ['Audit'],
          body: SystemEventsBody,
          response: { 200: SystemEvents, ...errors },
        },
      },
      async (request) => {
        const { skip, take, ...filters } = request.body;
        const caller = callerOf(request);
        const journal = await reads.journalUpTo(await log.end());
        const lines = journal.ofRepositories(
          (repoId) => permits(caller, repoId, 'history'),
          queryFor(filters),
        );
        const { page, total } = counted(lines, skip, take);
        const { showUnread: _, ...asked } = filters;
        await recordAccess(contextOf(request, dependencies), {
          access: 'system-events',
          repoId: null,
          apiKeyId: null,
          query: given({ ...asked, skip, take }),
        });
        return { events: (await entriesOf(log, page)).map(systemEvent), total, skip, take };
      },
    );
  };

type Filters = Omit<z.infer<typeof SystemEventsBody>, 'skip' | 'take'>;

function queryFor({ from_timestamp, to_timestamp, contextId, context, event, userId, workspaceId }: Filters) {
  const isOurs = [contextId, context].every((code) => code == null || OUR_CONTEXTS.includes(code));
  const word = event == null ? undefined : (WORDS[event] ?? 'nothing');
  const types = API_KEY_EVENTS.filter(
    (type) => isOurs && workspaceId == null && (word === undefined || wordOf(type) === word),
  );
  return {
    types: new Set<ApiKeyEvent['type']>(types),
    subject: userId ?? undefined,
    from: from_timestamp == null ? undefined : { time: from_timestamp },
    to: to_timestamp == null ? undefined : { time: to_timestamp },
  };
}

function counted(lines: Iterable<JournalLine>, skip: number, take: number) {
  const page: JournalLine[] = [];
  let total = 0;
  for (const line of lines) if (total++ >= skip && page.length < take) page.push(line);
  return { page, total };
}

function systemEvent({ id, type, at, actor, apiKeyId, changes, reason }: HistoryEntry) {
  return {
    id: numberOf(id),
    timestamp: at,
    contextId: apiKeyId ?? '',
    context: CONTEXT,
    event: wordOf(type),
    orgId: '',
    userId: actor?.subject ?? '',
    userName: '',
    userEmail: '',
    workspaceId: null,
    jsonData: JSON.stringify({ type, changes, reason }),
    showUnread: false,
  } as const;
}

/** The first 52 bits of the event's id, which a copy of the log keeps. */
const numberOf = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 13), 16);
