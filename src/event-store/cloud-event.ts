import { decodeAny } from './codec.js';
import { publicDataOf } from './event-schemas.js';
import type { RecordedEvent } from './event-store.js';
import { occurredAtOf, peekEvent } from './peek-event.js';
import { resumeTokenOf } from './resume-token.js';

/**
 * An event as subscribers receive it: CloudEvents 1.0 in its JSON format
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
 */
export type CloudEvent = {
  readonly specversion: '1.0';
  /** Stays the same for an event; unique together with the source. */
  readonly id: string;
  /** The log, as a URN. */
  readonly source: string;
  readonly type: string;
  /** Id of the API key or webhook that the event is about. */
  readonly subject?: string;
  /** When the event occurred, RFC 3339. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  /** Resume token: a subscriber continues after this event with it. */
  readonly position: string;
  readonly data: { readonly repoId: string | null; readonly [field: string]: unknown };
};

/**
 * Formats an event without secret material, neither sealed nor hashed.
 * @param repoId repository of the event's stream, if known: omits data that name another repository
 * @throws RangeError the stream is foreign
 */
export function cloudEvent(recorded: RecordedEvent, repoId?: string): CloudEvent {
  const { id, type, position, revision } = recorded;
  const { subject, data } = cloudEventBody(recorded, repoId);
  return {
    specversion: '1.0',
    id,
    source: `urn:uuid:${position.slice(0, position.indexOf(':'))}`,
    type,
    ...(subject === undefined ? {} : { subject }),
    time: occurredAtOf(recorded),
    datacontenttype: 'application/json',
    position: resumeTokenOf(recorded),
    data: { repoId: repoId ?? peekEvent(recorded).repoId ?? null, revision, ...data },
  };
}

type CloudEventBody = {
  readonly subject: string | undefined;
  readonly data: Readonly<Record<string, unknown>>;
};

function cloudEventBody(recorded: RecordedEvent, repoId: string | undefined): CloudEventBody {
  const { kind, id, event } = decodeAny(recorded);
  if (kind === 'audit-access') {
    const subject = peekEvent(recorded).apiKeyId;
    if (event.type === 'Unreadable') {
      return { subject, data: { apiKeyId: subject ?? null, unreadable: event.reason } };
    }
    const { actor, requestId, data } = event;
    return { subject, data: { apiKeyId: data.apiKeyId, actor, requestId, ...publicDataOf(event) } };
  }
  const about = kind === 'api-key' ? { apiKeyId: id } : { webhookId: id };
  if (event.type === 'Unreadable') return { subject: id, data: { ...about, unreadable: event.reason } };
  if (repoId !== undefined && event.data.repoId !== repoId) {
    return { subject: id, data: { ...about, unreadable: 'it names another repository' } };
  }
  const { actor, requestId } = event;
  return { subject: id, data: { ...about, actor, requestId, ...publicDataOf(event) } };
}
