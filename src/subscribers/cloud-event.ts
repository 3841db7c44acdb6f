import type { ApiKeyEvent } from '../domain/ai-api-key.js';
import { isAccessStream } from '../domain/audit-access.js';
import { decode, decodeAccess, occurredAtOf, saidOf } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

/** An event as subscribers get it: CloudEvents 1.0, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md */
export type CloudEvent = {
  readonly specversion: '1.0';
  /** The same for as long as the event is told; with the source it is unique. */
  readonly id: string;
  /** The log, as a URN. */
  readonly source: string;
  readonly type: string;
  /** The id of the API key or webhook that it is about. */
  readonly subject?: string;
  /** When it occurred, RFC 3339. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  /** Where it is in the log: to go on behind it. */
  readonly position: Position;
  readonly data: { readonly repoId: string; readonly revision: number; readonly [said: string]: unknown };
};

/**
 * An event without any secret material, neither sealed nor hashed: what is told is named one by one.
 * @param repoId the repository that it is about
 */
export function cloudEvent(recorded: RecordedEvent, repoId: string): CloudEvent {
  const { id, type, position, revision } = recorded;
  const { subject, time, data } = told(recorded, repoId);
  return {
    specversion: '1.0',
    id,
    source: `urn:uuid:${position.slice(0, position.indexOf(':'))}`,
    type,
    ...(subject === undefined ? {} : { subject }),
    time,
    datacontenttype: 'application/json',
    position,
    data: { repoId, revision, ...data },
  };
}

type Told = {
  readonly subject?: string | undefined;
  readonly time: string;
  readonly data: Readonly<Record<string, unknown>>;
};

function told(recorded: RecordedEvent, repoId: string): Told {
  if (isAccessStream(recorded.stream)) return access(recorded);
  const event = decode(recorded, recorded.revision);
  const { apiKeyId } = event.data;
  if (event.type === 'Unreadable') return unreadable(recorded, apiKeyId, event.reason);
  if (event.data.repoId !== repoId) return unreadable(recorded, apiKeyId, 'it names another repository');
  const { occurredAt: time, actor, requestId } = event;
  return { subject: apiKeyId, time, data: { apiKeyId, actor, requestId, ...saidBy(event) } };
}

function access(recorded: RecordedEvent): Told {
  const event = decodeAccess(recorded);
  const known = saidOf(recorded).apiKeyId;
  if (typeof event === 'string') return unreadable(recorded, known, event);
  const { access, apiKeyId, query, from, verified } = event.data;
  const { occurredAt: time, actor, requestId } = event;
  return { subject: known, time, data: { apiKeyId, actor, requestId, access, query, from, verified } };
}

/** It is told that something happened, and why nobody knows what. */
const unreadable = (recorded: RecordedEvent, subject: string | undefined, reason: string): Told => ({
  subject,
  time: occurredAtOf(recorded),
  data: { apiKeyId: subject ?? null, unreadable: reason },
});

function saidBy(event: ApiKeyEvent): object {
  switch (event.type) {
    case 'ApiKeyCreated': {
      const { name, aiType, accessKey, expiresAt } = event.data;
      return { name, aiType, key: accessKey, expiresAt };
    }
    case 'ApiKeyRenamed':
      return { name: event.data.name };
    case 'ApiKeySecretRotated': {
      const { secretVersion, overlapEndsAt } = event.data;
      return { secretVersion, overlapEndsAt };
    }
    case 'ApiKeyExpiryChanged':
      return { expiresAt: event.data.expiresAt };
    case 'ApiKeySuspended':
    case 'ApiKeyDeleted':
      return { reason: event.data.reason };
    case 'ApiKeyResumed':
      return {};
  }
}
