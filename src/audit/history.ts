import type { Actor } from '../domain/access.js';
import { streamOf } from '../domain/ai-api-key.js';
import { type Decoded, decode } from '../event-store/codec.js';
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
  readonly says: Readonly<Record<string, string | number | null>>;
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

/** A list of what may be said, so that no secret is said that somebody adds to an event. */
const SAID = [
  'repoId',
  'name',
  'aiType',
  'accessKey',
  'expiresAt',
  'secretVersion',
  'overlapEndsAt',
  'reason',
] as const;

function said({ data }: Decoded): HistoryEntry['says'] {
  const facts: { readonly [name in (typeof SAID)[number]]?: string | number | null } = data;
  return Object.fromEntries(
    SAID.flatMap((name) => {
      const fact = facts[name];
      return fact === undefined ? [] : [[name === 'accessKey' ? 'key' : name, fact]];
    }),
  );
}
