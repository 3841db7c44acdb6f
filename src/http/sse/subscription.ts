import { type Caller, type Permission, permits } from '../../domain/authorization.js';
import { KeyledgerError } from '../../domain/errors.js';
import type { EpochMs } from '../../domain/time.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Position } from '../../event-store/position.js';
import { resolveResumeToken } from '../../event-store/resume-token.js';
import type { Projector } from '../../projections/projector.js';
import type { Queries } from '../../projections/queries.js';
import type { HeartbeatSource } from './event-stream.js';

/** Dependencies of the routes that follow the log. */
export type StreamDependencies = {
  readonly log: EventStore;
  readonly queries: Queries;
  readonly projector: Projector;
  readonly clock: () => EpochMs;
  /** Aborted when the service stops. */
  readonly stopping: AbortSignal;
};

/**
 * Where a reader starts: after the position that it requests, at the first event (`start`, undefined), or at the
 * current end of the log if it requests none.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG (also for an event that this log does not hold), UNAVAILABLE, BEHIND
 */
export async function resolveStart(
  { log, queries }: StreamDependencies,
  requested: string | undefined,
): Promise<{ readonly after: Position | undefined; readonly end: Position }> {
  const end = await log.end();
  const position =
    requested === undefined || requested === 'start' ? undefined : await resolveResumeToken(log, end, requested);
  await queries.requireIndexPosition(end);
  return { after: requested === undefined ? end : position, end };
}

export const heartbeatSource = ({ indexProgress: indexed, tail }: Projector, everyMs: number): HeartbeatSource => ({
  everyMs,
  staleness: () => indexed.staleness,
  resumeTokenAt: (position) => tail.resumeTokenAt(position),
});

/**
 * The repositories that the caller may follow, or the one of them that it requests.
 * @throws KeyledgerError FORBIDDEN: it may not follow the one that it requests
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
