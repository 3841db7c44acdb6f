import { API_KEY_CATEGORY } from '../domain/ai-api-key.js';
import { AUDIT_ACCESS_CATEGORY } from '../domain/audit-access.js';
import { isUuid } from '../domain/uuid.js';
import { WEBHOOK_CATEGORY } from '../domain/webhook.js';
import type { RecordedEvent } from './event-store.js';

const KINDS = [
  [API_KEY_CATEGORY, 'api-key'],
  [WEBHOOK_CATEGORY, 'webhook'],
  [AUDIT_ACCESS_CATEGORY, 'audit-access'],
] as const;

/** Prefixes of the names of all streams that Keyledger writes. */
export const STREAM_CATEGORIES = KINDS.map(([category]) => category);

/** What a stream records: the events of one API key or webhook, or one access to the audit trail. */
export type StreamRef = { readonly kind: (typeof KINDS)[number][1]; readonly id: string };

/**
 * Undefined for a foreign stream, to which no release of Keyledger writes: other services may share the server and use
 * the same prefixes.
 */
export function classifyStream(stream: string): StreamRef | undefined {
  for (const [category, kind] of KINDS) {
    if (!stream.startsWith(category)) continue;
    const id = stream.slice(category.length);
    return isUuid(id) ? { kind, id } : undefined;
  }
  return undefined;
}

export const isKeyledgerStream = (stream: string): boolean => classifyStream(stream) !== undefined;

/** The id of the API key that a stream records; undefined for every other stream. */
export function apiKeyIdOf(stream: string): string | undefined {
  const ref = classifyStream(stream);
  return ref?.kind === 'api-key' ? ref.id : undefined;
}

/** Splits events into those of Keyledger and foreign ones, each in log order. */
export function partitionForeign(all: readonly RecordedEvent[]): {
  readonly events: readonly RecordedEvent[];
  readonly foreign: readonly RecordedEvent[];
} {
  if (all.every(({ stream }) => isKeyledgerStream(stream))) return { events: all, foreign: [] };
  return {
    events: all.filter(({ stream }) => isKeyledgerStream(stream)),
    foreign: all.filter(({ stream }) => !isKeyledgerStream(stream)),
  };
}
