import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { HistoryEntry } from '../../../audit/describe-event.js';
import { readEntries } from '../../../audit/read-entries.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { API_KEY_EVENTS, type ApiKeyEvent } from '../../../domain/ai-api-key.js';
import { type Actor, type RepositoryScope, scopeOf } from '../../../domain/authorization.js';
import { KeyledgerError } from '../../../domain/errors.js';
import { eventNumber } from '../../../projections/event-filter.js';
import type { Events } from '../../../projections/local/events.js';
import type { ReadMarks } from '../../../read-marks/read-marks.js';
import { hashOf } from '../../../security/credentials.js';
import { type CommandDependencies, commandContext } from '../../command-context.js';
import { callerOf } from '../../plugins/auth.js';
import { BODY_RULE, callerTime, definedEntries, errors, TEXT_RULE } from '../../schemas.js';

/** Codes by which clients of the platform's older event API select AI API keys, any API key, or everything. */
const API_KEY_CONTEXTS: readonly (number | null | undefined)[] = [12, 6, null, undefined];
const CONTEXT = 'aillmapikey';
const WORDS = ['created', 'updated', 'deleted'] as const;
const wordOf = (type: string): (typeof WORDS)[number] =>
  type === 'ApiKeyCreated' ? 'created' : type === 'ApiKeyDeleted' ? 'deleted' : 'updated';

const TIME_RULE = 'must be a time with its zone, such as 2030-01-31T12:00:00Z, or milliseconds since 1970';
const NUMBER_RULE = 'must be a whole number';
const SKIP_RULE = 'must be a whole number from 0 on';
const TAKE_RULE = 'must be a whole number from 1 to 1000';

const Time = z.union([callerTime(TIME_RULE).transform((text) => Date.parse(text)), z.int()], TIME_RULE).nullish();
const Code = z.int(NUMBER_RULE).nullish();
const Text = z.string(TEXT_RULE).nullish();
const SystemEventsBody = z.strictObject(
  {
    from_timestamp: Time.describe('Events that occurred at this time or later'),
    to_timestamp: Time.describe('Events that occurred at this time or earlier'),
    contextId: Text.describe('Id of the API key'),
    context: Code.describe('12 (AI API keys) or 6 (any API keys); anything else selects nothing'),
    event: Code.describe('0 created, 1 updated, 2 deleted; anything else selects nothing'),
    userId: Text.describe('Subject of the actor'),
    workspaceId: Text.describe('Keyledger has no workspaces: any value selects nothing'),
    showUnread: z
      .boolean('must be true or false')
      .nullish()
      .describe('true: only events that this caller has not marked as read'),
    skip: z.int(SKIP_RULE).min(0, SKIP_RULE),
    take: z.int(TAKE_RULE).min(1, TAKE_RULE).max(1000, TAKE_RULE),
  },
  BODY_RULE,
);

const SystemEvent = z
  .object({
    id: z.int().describe('Never changes'),
    timestamp: z.iso.datetime(),
    contextId: z.string().describe('Id of the API key'),
    context: z.literal(CONTEXT),
    event: z.enum(WORDS),
    orgId: z.string(),
    userId: z.string(),
    userName: z.string(),
    userEmail: z.string(),
    workspaceId: z.string().nullable(),
    jsonData: z.string().nullable().describe('JSON: the repository, the type of the event, and what it changed'),
    showUnread: z.boolean().describe('true: this caller has not marked it as read'),
  })
  .meta({ id: 'SystemEvent' });
const SystemEvents = z.object({
  events: z.array(SystemEvent),
  total: z.int().describe('Number of events before skip and take'),
  skip: z.int(),
  take: z.int(),
});

const MARKS_RULE = 'must be the id of an event, as in an answer';
const LIST_RULE = 'must be a list of 1 to 1000 ids of events';
const MARKS_BODY_LIMIT = 32 * 1024;
const EventNumber = z.int(MARKS_RULE).min(0, MARKS_RULE);
const MarksBody = z
  .strictObject(
    {
      id: EventNumber.optional(),
      ids: z.array(EventNumber, LIST_RULE).min(1, LIST_RULE).max(1000, LIST_RULE).optional(),
    },
    BODY_RULE,
  )
  .refine(({ id, ids }) => (id === undefined) !== (ids === undefined), 'must have either id or ids');
const Success = z.object({ success: z.literal(true) });

export type SystemEventDependencies = CommandDependencies & { readonly readMarks: ReadMarks };

/** The events of API keys, for clients of the platform's older event API. */
export const systemEventRoutes =
  (dependencies: SystemEventDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    const { log, queries, readMarks } = dependencies;
    app.post(
      '/systemevent',
      {
        config: { permission: 'history' },
        schema: {
          operationId: 'getSystemEvents',
          summary: 'List the events of all repositories in which the caller is admin or auditor, newest first',
          tags: ['Audit'],
          body: SystemEventsBody,
          response: { 200: SystemEvents, ...errors },
        },
      },
      async (request) => {
        const { skip, take, showUnread, ...filters } = request.body;
        const caller = callerOf(request);
        const marker = markerOf(caller);
        // Only showUnread needs the marks; without them all other queries answer events as unread.
        const except = showUnread ? await available(readMarks.of(marker)) : undefined;
        const events = await queries.eventsAt(await log.end());
        const query = { ...queryFor(filters), except: except?.size ? except : undefined };
        const { page, total } = await pageOf(events, scopeOf(caller, 'history'), query, { skip, take });
        await recordAuditAccess(commandContext(request, dependencies), {
          access: 'system-events',
          repoId: null,
          apiKeyId: null,
          query: definedEntries({ ...filters, showUnread: showUnread ? 'true' : undefined, skip, take }),
        });
        const entries = await readEntries(log, page);
        const numbers = entries.map(({ id }) => eventNumber(id));
        const read = except ?? (await readMarks.among(marker, numbers).catch(() => NOTHING_READ));
        return { events: entries.map((entry) => systemEvent(entry, read)), total, skip, take };
      },
    );

    app.post(
      '/systemevent/read',
      {
        config: { permission: 'history' },
        bodyLimit: MARKS_BODY_LIMIT,
        schema: {
          operationId: 'markSystemEventsRead',
          summary: 'Mark events as read, for this caller',
          tags: ['Audit'],
          body: MarksBody,
          response: { 200: Success, ...errors },
        },
      },
      async (request) => {
        await available(readMarks.mark(markerOf(callerOf(request)), numbersIn(request.body)));
        return { success: true as const };
      },
    );

    app.delete(
      '/systemevent/read',
      {
        config: { permission: 'history' },
        bodyLimit: MARKS_BODY_LIMIT,
        schema: {
          operationId: 'markSystemEventsUnread',
          summary: 'Mark events as unread again, for this caller',
          tags: ['Audit'],
          body: MarksBody,
          response: { 200: Success, ...errors },
        },
      },
      async (request) => {
        await available(readMarks.unmark(markerOf(callerOf(request)), numbersIn(request.body)));
        return { success: true as const };
      },
    );
  };

const NOTHING_READ: ReadonlySet<number> = new Set();

const markerOf = ({ issuer, subject }: Actor): string => hashOf(JSON.stringify([issuer, subject]));

const numbersIn = ({ id, ids }: z.infer<typeof MarksBody>): readonly number[] => ids ?? [id ?? 0];

/** @throws KeyledgerError UNAVAILABLE */
const available = <T>(answer: Promise<T>): Promise<T> =>
  answer.catch((cause: unknown) => {
    throw new KeyledgerError('UNAVAILABLE', { cause });
  });

type Filters = Omit<z.infer<typeof SystemEventsBody>, 'skip' | 'take' | 'showUnread'>;

function queryFor({ from_timestamp, to_timestamp, contextId, context, event, userId, workspaceId }: Filters) {
  const isSelected = API_KEY_CONTEXTS.includes(context);
  const word = event == null ? undefined : (WORDS[event] ?? 'nothing');
  const types = API_KEY_EVENTS.filter(
    (type) => isSelected && workspaceId == null && (word === undefined || wordOf(type) === word),
  );
  return {
    types: new Set<ApiKeyEvent['type']>(types),
    subject: userId ?? undefined,
    apiKeyId: contextId?.toLowerCase(),
    from: from_timestamp == null ? undefined : { time: from_timestamp },
    to: to_timestamp == null ? undefined : { time: to_timestamp },
  };
}

/** Without other filters than types the total is a count that is kept, so that the search ends with the page. */
async function pageOf(
  events: Events,
  scope: RepositoryScope,
  query: ReturnType<typeof queryFor> & { readonly except: ReadonlySet<number> | undefined },
  { skip, take }: { readonly skip: number; readonly take: number },
) {
  const { types, ...filters } = query;
  const isCounted = Object.values(filters).every((filter) => filter === undefined);
  const { page, found } = await events.find(scope, query, { skip, take, countAll: !isCounted });
  return { page, total: isCounted ? events.count(scope, types) : found };
}

function systemEvent({ id, type, at, actor, apiKeyId, changes, reason }: HistoryEntry, read: ReadonlySet<number>) {
  const number = eventNumber(id);
  return {
    id: number,
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
    showUnread: !read.has(number),
  } as const;
}
