import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { UNREADABLE } from '../faults.js';

/** State of a key after an event, as simple as possible. */
export type KeyState = {
  readonly repoId: string;
  readonly name: string;
  readonly status: 'active' | 'suspended' | 'deleted' | 'unavailable';
  /** Access key, and hashes of the secrets that are valid while the status is active. */
  readonly accessKey: string;
  readonly hashes: readonly string[];
};

/** Event in the life of a key, and the state of the key after it. */
export type LifeEvent = {
  /** Index among all events of the log, from 0. */
  readonly place: number;
  readonly position: string;
  readonly requestId: string;
  readonly type: string;
  readonly data: { readonly [field: string]: unknown };
  readonly state: KeyState;
};

/** Life of every key in the log. */
export type Lives = ReadonlyMap<string, readonly LifeEvent[]>;

const STREAM = 'aiApiKey-';

export function livesIn(events: readonly RecordedEvent[]): Lives {
  const lives = new Map<string, LifeEvent[]>();
  for (const [place, event] of events.entries()) {
    if (!event.stream.startsWith(STREAM)) continue;
    const id = event.stream.slice(STREAM.length);
    const life = lives.get(id) ?? [];
    lives.set(id, life);
    const { requestId } = event.metadata as { requestId: string };
    const { position, type } = event;
    const data = event.data as LifeEvent['data'];
    const state = next(life.at(-1)?.state, type, data, requestId.startsWith(UNREADABLE));
    life.push({ place, position, requestId, type, data, state });
  }
  return lives;
}

/** The rules for a key's life, written a second time: the checks do not trust the code that they check. */
function next(before: KeyState | undefined, type: string, data: LifeEvent['data'], isUnreadable: boolean): KeyState {
  const text = (field: string) => String(data[field]);
  if (!before) {
    const [repoId, name, accessKey] = [text('repoId'), text('name'), text('accessKey')];
    const hashes = [text('secretHash')];
    return { repoId, name, accessKey, hashes, status: type === 'ApiKeyCreated' ? 'active' : 'unavailable' };
  }
  if (before.status === 'deleted') return before;
  if (type === 'ApiKeyDeleted') return { ...before, status: 'deleted' };
  if (before.status === 'unavailable' || isUnreadable) return { ...before, status: 'unavailable' };
  switch (type) {
    case 'ApiKeyRenamed':
      return { ...before, name: text('name') };
    case 'ApiKeySecretRotated': {
      // Overlaps last longer than any run.
      const [old = ''] = before.hashes;
      const overlaps = data['overlapEndsAt'] !== null;
      return { ...before, hashes: [text('secretHash'), ...(overlaps ? [old] : [])] };
    }
    case 'ApiKeySuspended':
      return { ...before, status: 'suspended' };
    case 'ApiKeyResumed':
      return { ...before, status: 'active' };
    default:
      return { ...before, status: 'unavailable' };
  }
}
