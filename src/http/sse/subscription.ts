import { type Caller, type Permission, permits } from '../../domain/authorization.js';
import { KeyledgerError } from '../../domain/errors.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Position } from '../../event-store/position.js';
import { resolveResumeToken } from '../../event-store/resume-token.js';
import type { Projector } from '../../projections/projector.js';
import type { Queries } from '../../projections/queries.js';
import type { HeartbeatSource } from './event-stream.js';

/** What the routes need that follow the log. */
export type StreamDependencies = {
  readonly log: EventStore;
  readonly queries: Queries;
  readonly projector: Projector;
  readonly clock: () => number;
  /** Aborted when the service stops. */
  readonly stopping: AbortSignal;
};

/**
 * Where a reader begins, and where the log ends now: behind a position that it names, from the first event on
 * (undefined, `start`), or from now on if it names none.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG (also for an event that this log does not hold), UNAVAILABLE, BEHIND
 */
export async function resolveStart(
  { log, queries }: StreamDependencies,
  given: string | undefined,
): Promise<{ readonly after: Position | undefined; readonly end: Position }> {
  const end = await log.end();
  const asked =
    given === undefined || given === 'start' ? undefined : await resolveResumeToken(log, end, given);
  await queries.awaitIndex(end);
  return { after: given === undefined ? end : asked, end };
}

/** How readers are told where they are. */
export const heartbeatSource = (
  { indexProgress: indexed, tail }: Projector,
  everyMs: number,
): HeartbeatSource => ({
  everyMs,
  staleness: () => indexed.staleness,
  resumeTokenAt: (position) => tail.resumeTokenAt(position),
});

/**
 * Which repositories the caller may follow; of those the one that it asks for.
 * @throws KeyledgerError FORBIDDEN: not that one
 */
export function repositoryFilter(
  caller: Caller,
  permission: Permission,
  repoId: string | undefined,
): (repoId: string) => boolean {
  if (repoId === undefined) return (other) => permits(caller, other, permission);
  if (!permits(caller, repoId, permission)) throw new KeyledgerError('FORBIDDEN');
  return (other) => other === repoId;
}
