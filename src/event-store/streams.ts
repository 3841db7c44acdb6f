import { isApiKeyStream } from '../domain/ai-api-key.js';
import { isAuditAccessStream } from '../domain/audit-access.js';
import { isWebhookStream } from '../domain/webhook.js';
import type { RecordedEvent } from './event-store.js';

/**
 * Can a release of Keyledger have written to a stream of this name? A server that others use too may hold streams whose
 * names begin as ours do: what is in them is nothing of ours.
 */
export const isKeyledgerStream = (stream: string): boolean =>
  isApiKeyStream(stream) || isWebhookStream(stream) || isAuditAccessStream(stream);

/** Events of this log, and foreign ones, each in their order. */
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
