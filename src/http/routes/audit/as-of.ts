import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { apiKeyAsOfView, keyAsOf, listAsOf as listOf } from '../../../audit/as-of.js';
import { formatPointInTime, type PointInTime, parsePointInTime } from '../../../audit/point-in-time.js';
import { recordAuditAccess } from '../../../commands/record-audit-access.js';
import { KeyledgerError } from '../../../domain/errors.js';
import type { Position } from '../../../event-store/position.js';
import type { ListQuery } from '../../../projections/queries.js';
import { type CommandDependencies, commandContext } from '../../command-context.js';
import { definedEntries } from '../../schemas.js';

/** The answers of lists and single keys as of a moment: read from the log, and written down before. */

export const AsOf = z
  .string()
  .optional()
  .describe(
    'A time (RFC 3339 with its zone) or a position: the answer is what was so then, from the log, for who may audit. A time means each key’s events up to it.',
  );

type Asked = { readonly asOf: string; readonly atLeast: Position | undefined };

/** @throws KeyledgerError INVALID_INPUT, OTHER_LOG, UNAVAILABLE, BEHIND */
export async function listAsOf(
  request: FastifyRequest,
  reply: FastifyReply,
  dependencies: CommandDependencies,
  { asOf, query, atLeast }: Asked & { readonly query: ListQuery },
) {
  const { log, queries, clock } = dependencies;
  const { repoId } = request.params as { repoId: string };
  const pointInTime = await parsePointInTime(asOf, log, clock());
  // Another instance may have made a key a moment ago.
  const end = pointInTime.position ?? (await log.end());
  const upTo = atLeast !== undefined && atLeast > end ? atLeast : end;
  const entries = await queries.keysCreatedBefore(repoId, query.after, upTo);
  await record(request, reply, dependencies, pointInTime, { repoId, apiKeyId: null });
  const { items, next } = await listOf(log, entries, pointInTime, query);
  return { shown: items.map((key) => apiKeyAsOfView(key, pointInTime)), next };
}

/** @throws KeyledgerError INVALID_INPUT, OTHER_LOG, KEY_NOT_FOUND, UNAVAILABLE, BEHIND */
export async function getAsOf(
  request: FastifyRequest,
  reply: FastifyReply,
  dependencies: CommandDependencies,
  {
    asOf,
    apiKeyId,
    include,
    atLeast,
  }: Asked & { readonly apiKeyId: string; readonly include: 'deleted' | undefined },
) {
  const { log, queries, clock } = dependencies;
  const { repoId } = request.params as { repoId: string };
  const pointInTime = await parsePointInTime(asOf, log, clock());
  if (atLeast !== undefined) await queries.awaitVerifyPosition(atLeast);
  await record(request, reply, dependencies, pointInTime, { repoId, apiKeyId });
  const key = await keyAsOf(log, apiKeyId, pointInTime);
  const isShown = key?.repoId === repoId && (key.status !== 'deleted' || include === 'deleted');
  if (!isShown) throw new KeyledgerError('KEY_NOT_FOUND');
  return apiKeyAsOfView(key, pointInTime);
}

/** Writes down who is about to be told what was so at a moment, with the query as it was asked. */
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
