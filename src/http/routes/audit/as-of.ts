import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { apiKeyAsOfView, type KeyAsOf, keyAsOf, keysAsOf, listAsOf } from '../../../audit/as-of.js';
import { formatPointInTime, type PointInTime, parsePointInTime } from '../../../audit/point-in-time.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { Position } from '../../../event-store/position.js';
import type { ListQuery } from '../../../projections/list-query.js';
import { type CommandDependencies, commandContext } from '../../command-context.js';
import { definedEntries } from '../../schemas.js';

/** Lists and single keys as of a point in time: recorded as an access, then read from the log. */

export const AsOf = z
  .string()
  .optional()
  .describe(
    'A time (RFC 3339 with its zone) or a position: answers the state at that point, from the log; needs the role auditor. A time includes each key’s events up to it',
  );

type AsOfQuery = { readonly asOf: string; readonly minPosition: Position | undefined };

/**
 * Reads a page of keys, or without a limit all of them, in arrays.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG, UNAVAILABLE, BEHIND
 */
export async function listApiKeysAsOf(
  request: FastifyRequest,
  reply: FastifyReply,
  dependencies: CommandDependencies,
  { asOf, query, limit, minPosition }: AsOfQuery & { readonly query: ListQuery; readonly limit: number | undefined },
): Promise<{ views: ApiKeyAsOfView[]; next: Position | null } | AsyncGenerator<ApiKeyAsOfView[]>> {
  const { log, queries, clock } = dependencies;
  const { repoId } = request.params as { repoId: string };
  const pointInTime = await parsePointInTime(asOf, log, clock());
  // Another instance may just have created a key.
  const end = pointInTime.position ?? (await log.end());
  const upTo = minPosition !== undefined && minPosition > end ? minPosition : end;
  const entries = await queries.keysCreatedBefore(repoId, query.after, upTo);
  await record(request, reply, dependencies, pointInTime, { repoId, apiKeyId: null });
  const viewOf = (key: KeyAsOf) => apiKeyAsOfView(key, pointInTime);
  if (limit === undefined) return mapPages(keysAsOf(log, entries, pointInTime, query), viewOf);
  const { items, next } = await listAsOf(log, entries, pointInTime, { ...query, limit });
  return { views: items.map(viewOf), next };
}

type ApiKeyAsOfView = ReturnType<typeof apiKeyAsOfView>;

async function* mapPages<T, U>(pages: AsyncIterable<T[]>, map: (item: T) => U): AsyncGenerator<U[]> {
  for await (const page of pages) yield page.map(map);
}

/** @throws KeyledgerError INVALID_INPUT, OTHER_LOG, KEY_NOT_FOUND, UNAVAILABLE, BEHIND */
export async function getApiKeyAsOf(
  request: FastifyRequest,
  reply: FastifyReply,
  dependencies: CommandDependencies,
  {
    asOf,
    apiKeyId,
    include,
    minPosition,
  }: AsOfQuery & { readonly apiKeyId: string; readonly include: 'deleted' | undefined },
) {
  const { log, queries, clock } = dependencies;
  const { repoId } = request.params as { repoId: string };
  const pointInTime = await parsePointInTime(asOf, log, clock());
  if (minPosition !== undefined) await queries.requirePosition(minPosition);
  await record(request, reply, dependencies, pointInTime, { repoId, apiKeyId });
  const key = await keyAsOf(log, apiKeyId, pointInTime);
  const isShown = key?.repoId === repoId && (key.status !== 'deleted' || include === 'deleted');
  if (!isShown) throw new KeyledgerError('KEY_NOT_FOUND');
  return apiKeyAsOfView(key, pointInTime);
}

/** Records the access, with the query as the caller sent it, before the answer. */
async function record(
  request: FastifyRequest,
  reply: FastifyReply,
  dependencies: CommandDependencies,
  pointInTime: PointInTime,
  about: { readonly repoId: string; readonly apiKeyId: string | null },
): Promise<void> {
  const asOf = formatPointInTime(pointInTime);
  const query = definedEntries({ ...(request.query as Record<string, string | number | undefined>), asOf });
  await recordAuditAccess(commandContext(request, dependencies), { access: 'as-of', ...about, query });
  reply.header('keyledger-as-of', asOf);
}
