import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { UNREADABLE } from '../faults.js';

/** What a key is after an event, as simply as it can be said. */
export type KeyState = {
  readonly repoId: string;
  readonly name: string;
  readonly status: 'active' | 'suspended' | 'deleted' | 'unavailable';
  /** Of the access key and of each secret that is good, while the status is active. */
  readonly accessKey: string;
  readonly hashes: readonly string[];
};

/** An event in the life of a key, and what the key is since then. */
export type Moment = {
  /** Which one it is of all events of the log, from 0 on. */
  readonly place: number;
  readonly position: string;
  readonly requestId: string;
  readonly type: string;
  readonly data: { readonly [field: string]: unknown };
  readonly state: KeyState;
};

/** Of every key that the log holds all that happened to it. */
export type Lives = ReadonlyMap<string, readonly Moment[]>;

const STREAM = 'aiApiKey-';

export function livesIn(events: readonly RecordedEvent[]): Lives {
  const lives = new Map<string, Moment[]>();
  for (const [place, event] of events.entries()) {
    if (!event.stream.startsWith(STREAM)) continue;
    const id = event.stream.slice(STREAM.length);
    const life = lives.get(id) ?? [];
    lives.set(id, life);
    const { requestId } = event.metadata as { requestId: string };
    const { position, type } = event;
    const data = event.data as Moment['data'];
    const state = next(life.at(-1)?.state, type, data, requestId.startsWith(UNREADABLE));
    life.push({ place, position, requestId, type, data, state });
  }
  return lives;
}

/** The rules of the life of a key, written down a second time: the checks do not trust the code that they check. */
function next(
  before: KeyState | undefined,
  type: string,
  data: Moment['data'],
  isUnreadable: boolean,
): KeyState {
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
