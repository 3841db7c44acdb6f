import type { Actor } from '../domain/access.js';
import { streamOf } from '../domain/ai-api-key.js';
import { decode } from '../event-store/codec.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';

export type HistoryEntry = {
  readonly type: string;
  readonly at: string;
  readonly actor: Actor | null;
  readonly requestId: string | null;
  readonly revision: number;
  readonly position: Position;
  /** What the event says of the key; never secret material, sealed or hashed. */
  readonly says: Readonly<Record<string, string>>;
};

/** Every event of a key, a deleted one too, oldest first; nothing if there is no such key. */
export async function* history(log: EventStore, apiKeyId: string): AsyncIterable<HistoryEntry> {
  let next = 0;
  for await (const recorded of log.readStream(streamOf(apiKeyId))) {
    const { revision, position } = recorded;
    const event = decode(recorded, next);
    next = revision + 1;
    const at = { at: event.occurredAt, revision, position };
    if (event.type === 'Unreadable') {
      yield { type: recorded.type, ...at, actor: null, requestId: null, says: { unreadable: event.reason } };
    } else {
      const { type, actor, requestId } = event;
      yield { type, ...at, actor, requestId, says: said(event) };
    }
  }
}

type Readable = Exclude<ReturnType<typeof decode>, { type: 'Unreadable' }>;

function said(event: Readable): Record<string, string> {
  switch (event.type) {
    case 'ApiKeyCreated': {
      const { repoId, name, aiType, accessKey } = event.data;
      return { repoId, name, aiType, key: accessKey };
    }
    case 'ApiKeyRenamed':
      return { repoId: event.data.repoId, name: event.data.name };
    case 'ApiKeyDeleted':
      return { repoId: event.data.repoId };
  }
}
