import { setImmediate } from 'node:timers/promises';
import { type AiApiKey, apiKeyIdOf } from '../domain/ai-api-key.js';
import { type Caller, permits } from '../domain/authorization.js';
import type { EventBatch } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from '../projections/api-key-index.js';
import type { Projector } from '../projections/projector.js';
import { hashOf } from '../security/credentials.js';

/** An API key as a verifier elsewhere must know it to decide as the service does: with the hashes of its secrets. */
export type ReplicaKey = Pick<
  AiApiKey,
  | 'apiKeyId'
  | 'repoId'
  | 'name'
  | 'aiType'
  | 'accessKey'
  | 'status'
  | 'expiresAt'
  | 'secretHash'
  | 'oldSecret'
>;

export type ReplicaPage = {
  readonly keys: readonly ReplicaKey[];
  /** Undefined in a snapshot, in the middle of which nobody can go on. */
  readonly position: Position | undefined;
  readonly caughtUp: boolean;
};

const SNAPSHOT_PAGE = 500;
/** Between two turns of the event loop. */
const YIELD_EVERY = 10_000;

/**
 * The keys of the repositories that the reader sees, and then, without end, each that changes, as it is when that is
 * told: an event may so be told before its time, but none too late.
 * @param after where a reader goes on that has everything up to there; undefined: it has nothing
 * @throws KeyledgerError OTHER_LOG, UNAVAILABLE
 */
export async function* readReplica(
  projector: Projector,
  { after, sees }: { readonly after: Position | undefined; readonly sees: (repoId: string) => boolean },
  signal: AbortSignal,
): AsyncGenerator<ReplicaPage> {
  // Read before the snapshot: what changes while it is taken is told again.
  const from = after ?? projector.indexProgress.position;
  if (after === undefined) yield* snapshot(projector.apiKeyIndex.entries(), sees);
  // Of whatever type: one that this release does not know makes its key unavailable.
  const skipTo = (position: Position | undefined) => projector.eventIndex.skipTo(position, sees, undefined);
  for await (const page of projector.tail.read(from, signal, { skipTo, sees })) {
    const { position, caughtUp } = page;
    yield { keys: changedKeys(page, projector).filter(({ repoId }) => sees(repoId)), position, caughtUp };
  }
}

async function* snapshot(
  entries: Iterable<ApiKeyEntry>,
  sees: (repoId: string) => boolean,
): AsyncGenerator<ReplicaPage> {
  let keys: ReplicaKey[] = [];
  let visited = 0;
  for (const { key } of entries) {
    if (sees(key.repoId)) keys.push(replicaKey(key));
    if (keys.length === SNAPSHOT_PAGE) {
      yield { keys, position: undefined, caughtUp: false };
      keys = [];
    }
    if (++visited % YIELD_EVERY === 0) await setImmediate();
  }
  yield { keys, position: undefined, caughtUp: false };
}

function changedKeys({ events }: EventBatch, { apiKeyIndex: index }: Projector): ReplicaKey[] {
  const ids = new Set(events.map(({ stream }) => apiKeyIdOf(stream) ?? ''));
  return [...ids].flatMap((id) => {
    const key = index.entryOf(id)?.key;
    return key ? [replicaKey(key)] : [];
  });
}

/** Named one by one: nothing else of a key leaves the process. */
const replicaKey = ({
  apiKeyId,
  repoId,
  name,
  aiType,
  accessKey,
  status,
  expiresAt,
  secretHash,
  oldSecret,
}: AiApiKey): ReplicaKey => ({
  apiKeyId,
  repoId,
  name,
  aiType,
  accessKey,
  status,
  expiresAt,
  secretHash,
  oldSecret,
});

/** Tells whether a caller may still follow the same repositories as before: if not, it needs a new snapshot. */
export const replicaScope = (caller: Caller): string =>
  hashOf(
    JSON.stringify(
      Object.keys(caller.grants)
        .sort()
        .map((repoId) => [repoId, permits(caller, repoId, 'replica')]),
    ),
  );
