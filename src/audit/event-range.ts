import { z } from 'zod';
import { apiKeyIdOf, apiKeyStream } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import { webhookIdOf } from '../domain/webhook.js';
import { occurredAtOf } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { type Position, parsePosition } from '../event-store/position.js';
import type { RangeBound } from '../projections/event-index.js';
import { parseTime } from './point-in-time.js';

/** Which part of the log is meant; all of it where nothing is said. */
export type EventRange = {
  /** What comes behind this position, or occurred at this moment or later. */
  readonly from?: RangeBound | undefined;
  /** Up to and with the event at this position, or what occurred at this moment. */
  readonly to?: RangeBound | undefined;
  readonly repoId?: string | undefined;
};

/**
 * Reads a position or a time that came from outside.
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
 * The events of a part of the log, in log order, up to a fixed end. Without `from` it holds the beginning
 * of each stream that it holds anything of: the times in a stream never go back.
 * @param end the log's end when the reading begins: writes that go on meanwhile do not prolong it
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
 * The repository that an event says, or that of the key or webhook it is about, by its first event: of an
 * event that cannot be read, and of an access to one key at the command line.
 */
async function resolveRepoId(log: EventStore, { stream, data }: RecordedEvent): Promise<string | undefined> {
  const said = WithRepoId.safeParse(data).data?.repoId;
  if (said !== undefined) return said;
  const apiKeyId = apiKeyIdOf(stream) ?? WithApiKeyId.safeParse(data).data?.apiKeyId;
  const about = webhookIdOf(stream) !== undefined ? stream : apiKeyId && apiKeyStream(apiKeyId);
  if (!about) return undefined;
  for await (const first of log.readStream(about)) return WithRepoId.safeParse(first.data).data?.repoId;
  return undefined;
}
