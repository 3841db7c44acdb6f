import { z } from 'zod';
import { timestamp } from './event-schemas.js';
import type { RecordedEvent } from './event-store.js';

/** Fields of an event that can be read without decoding it, so also those of an unreadable one. */

const Imported = z.object({ importedFrom: z.object({ recordedAt: timestamp }) });

/** True if the event was imported from another log. */
export const isImported = ({ metadata }: RecordedEvent): boolean =>
  typeof metadata === 'object' && metadata !== null && 'importedFrom' in metadata;

/** When the first log recorded the event (RFC 3339): a copy answers as its original does. */
export const firstRecordedAt = ({ metadata, recordedAt }: RecordedEvent): string =>
  Imported.safeParse(metadata).data?.importedFrom.recordedAt ?? recordedAt;

const OccurredAtOnly = z.object({ occurredAt: timestamp });

/** When the event occurred by its metadata (RFC 3339); without that, when it was recorded. */
export const occurredAtOf = (recorded: RecordedEvent): string =>
  OccurredAtOnly.safeParse(recorded.metadata).data?.occurredAt ?? firstRecordedAt(recorded);

/** The actor's subject and the ids in an event, as far as they are text. */
export function peekEvent({ data, metadata }: RecordedEvent): {
  readonly subject: string | undefined;
  readonly apiKeyId: string | undefined;
  readonly repoId: string | undefined;
} {
  const actor = (metadata as { actor?: unknown } | null | undefined)?.actor;
  return {
    subject: textField(actor, 'subject'),
    apiKeyId: textField(data, 'apiKeyId'),
    repoId: textField(data, 'repoId'),
  };
}

function textField(value: unknown, field: string): string | undefined {
  const found = (value as Readonly<Record<string, unknown>> | null | undefined)?.[field];
  return typeof found === 'string' ? found : undefined;
}
