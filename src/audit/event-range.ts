import { z } from 'zod';
import { apiKeyStream } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { occurredAtOf } from '../event-store/peek-event.js';
import { type Position, parsePosition } from '../event-store/position.js';
import { classifyStream } from '../event-store/streams.js';
import type { RangeBound } from '../projections/event-filter.js';
import { parseTime } from './point-in-time.js';

/** Part of the log; all of it without bounds. */
export type EventRange = {
  /** Events after this position, or that occurred at this time or later. */
  readonly from?: RangeBound | undefined;
  /** Events up to and including this position, or that occurred at this time or before. */
  readonly to?: RangeBound | undefined;
  readonly repoId?: string | undefined;
};

/**
 * Parses a position or a time from outside.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG
 */
export function parseBound(text: string, logId: string): RangeBound {
  const time = parseTime(text);
  if (time !== undefined) return { time };
  try {
    return { position: parsePosition(text, logId) };
  } catch (error) {
    if ((error as KeyledgerError).code === 'OTHER_LOG') throw error;
    const message = `${text} is neither a position of this log nor a time such as 2026-01-31T12:00:00Z`;
    throw new KeyledgerError('INVALID_INPUT', { message });
  }
}

/**
 * Events of a part of the log, in log order, up to a fixed end. Without `from` it includes the beginning of each of its
 * streams, because times within a stream never decrease.
 * @param end the log's end when reading begins, so that later appends do not prolong it
 */
export async function* eventsInRange(
  log: EventStore,
  { from, to, repoId }: EventRange,
  end: Position,
): AsyncIterable<RecordedEvent> {
  const last = to && 'position' in to && to.position < end ? to.position : end;
  for await (const recorded of log.readAll(from && 'position' in from ? from.position : undefined)) {
    if (recorded.position > last) return;
    if (from && 'time' in from && Date.parse(occurredAtOf(recorded)) < from.time) continue;
    if (to && 'time' in to && Date.parse(occurredAtOf(recorded)) > to.time) continue;
    if (repoId !== undefined && (await resolveRepoId(log, recorded)) !== repoId) continue;
    yield recorded;
  }
}

const WithRepoId = z.object({ repoId: z.string() });
const WithApiKeyId = z.object({ apiKeyId: z.string() });

/**
 * Repository that an event names, or that of its key or webhook, by the first event of their stream: for unreadable
 * events, and for command-line accesses to a single key.
 */
async function resolveRepoId(log: EventStore, { stream, data }: RecordedEvent): Promise<string | undefined> {
  const named = WithRepoId.safeParse(data).data?.repoId;
  if (named !== undefined) return named;
  const apiKeyId = WithApiKeyId.safeParse(data).data?.apiKeyId;
  const isAccess = classifyStream(stream)?.kind === 'audit-access';
  const about = isAccess ? apiKeyId && apiKeyStream(apiKeyId) : stream;
  if (!about) return undefined;
  for await (const first of log.readStream(about)) return WithRepoId.safeParse(first.data).data?.repoId;
  return undefined;
}
