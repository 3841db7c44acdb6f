import { type ApiKeyEvent, apiKeyIdOf } from '../domain/ai-api-key.js';
import { isAuditAccessStream } from '../domain/audit-access.js';
import { type WebhookEvent, webhookIdOf } from '../domain/webhook.js';
import {
  decodeApiKeyEvent,
  decodeAuditAccess,
  decodeWebhookEvent,
  occurredAtOf,
  peekEvent,
} from './codec.js';
import type { RecordedEvent } from './event-store.js';
import { resumeTokenOf } from './resume-token.js';

/**
 * An event as it is told outside: CloudEvents 1.0 in its JSON format
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
 */
export type CloudEvent = {
  readonly specversion: '1.0';
  /** Always the same for an event; with the source it is unique. */
  readonly id: string;
  /** The log, as a URN. */
  readonly source: string;
  readonly type: string;
  /** The id of the API key or webhook that it is about. */
  readonly subject?: string;
  /** When it occurred, RFC 3339. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  /** Its bookmark: to go on behind it. */
  readonly position: string;
  readonly data: { readonly repoId: string | null; readonly [said: string]: unknown };
};

/**
 * An event without any secret material, neither sealed nor hashed: what is told is named one by one.
 * @param repoId the repository that its stream belongs to, if that is known: an event that names another is not believed
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
  const { stream, revision } = recorded;
  if (isAuditAccessStream(stream)) return auditAccessBody(recorded);
  const [apiKeyId, webhookId] = [apiKeyIdOf(stream), webhookIdOf(stream)];
  if (apiKeyId !== undefined)
    return decodedBody(apiKeyId, { apiKeyId }, decodeApiKeyEvent(recorded, revision), repoId);
  if (webhookId !== undefined)
    return decodedBody(webhookId, { webhookId }, decodeWebhookEvent(recorded, revision), repoId);
  const data = { stream, unreadable: 'a stream of nobody' };
  return { subject: undefined, data };
}

function decodedBody(
  subject: string,
  about: object,
  event: ReturnType<typeof decodeApiKeyEvent> | ReturnType<typeof decodeWebhookEvent>,
  repoId: string | undefined,
): CloudEventBody {
  if (event.type === 'Unreadable') return { subject, data: { ...about, unreadable: event.reason } };
  if (repoId !== undefined && event.data.repoId !== repoId) {
    return { subject, data: { ...about, unreadable: 'it names another repository' } };
  }
  const { actor, requestId } = event;
  return { subject, data: { ...about, actor, requestId, ...publicData(event) } };
}

function auditAccessBody(recorded: RecordedEvent): CloudEventBody {
  const event = decodeAuditAccess(recorded);
  const subject = peekEvent(recorded).apiKeyId;
  if (typeof event === 'string') {
    const data = { apiKeyId: subject ?? null, unreadable: event };
    return { subject, data };
  }
  const { apiKeyId, access, query, from, verified } = event.data;
  const { actor, requestId } = event;
  return { subject, data: { apiKeyId, actor, requestId, access, query, from, verified } };
}

function publicData(event: ApiKeyEvent | WebhookEvent): object {
  switch (event.type) {
    case 'ApiKeyCreated': {
      const { name, aiType, accessKey, expiresAt } = event.data;
      return { name, aiType, key: accessKey, expiresAt };
    }
    case 'ApiKeyRenamed':
      return { name: event.data.name };
    case 'ApiKeySecretRotated':
    case 'WebhookSecretRotated': {
      const { secretVersion, overlapEndsAt } = event.data;
      return { secretVersion, overlapEndsAt };
    }
    case 'ApiKeyExpiryChanged':
      return { expiresAt: event.data.expiresAt };
    case 'ApiKeySuspended':
    case 'ApiKeyDeleted':
      return { reason: event.data.reason };
    case 'WebhookRegistered':
    case 'WebhookChanged': {
      const { url, types, description } = event.data;
      return { url, types, description };
    }
    case 'WebhookPaused': {
      const { cause, reason } = event.data;
      return { cause, reason };
    }
    case 'WebhookReplayed':
      return { after: event.data.after };
    case 'ApiKeyResumed':
    case 'WebhookResumed':
    case 'WebhookDeleted':
      return {};
  }
}
