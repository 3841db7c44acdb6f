import type { AiApiKey } from '../domain/ai-api-key.js';
import { type Caller, permits } from '../domain/authorization.js';
import type { EventBatch } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { paced } from '../paced.js';
import type { ProjectionStore } from '../projections/local/store.js';
import type { Projector } from '../projections/projector.js';
import { hashOf } from '../security/credentials.js';

/** What an in-process verifier needs of an API key to decide as the service does: with the hashes of its secrets. */
export type ReplicaKey = Pick<
  AiApiKey,
  'apiKeyId' | 'repoId' | 'name' | 'aiType' | 'accessKey' | 'status' | 'expiresAt' | 'secretHash' | 'oldSecret'
>;

export type ReplicaBatch = {
  readonly keys: readonly ReplicaKey[];
  /** Undefined in a snapshot, because no reader can resume in the middle of one. */
  readonly position: Position | undefined;
  readonly caughtUp: boolean;
};

const SNAPSHOT_PAGE_SIZE = 500;

/**
 * Yields the keys of the repositories that the reader sees and then, without end, each key that changes. It sends a
 * changed key in its current state, which may include later events but lacks none up to the position.
 * @param after the position up to which the reader has everything; undefined: it has nothing
 * @throws KeyledgerError OTHER_LOG, UNAVAILABLE
 */
export async function* readReplica(
  projector: Projector,
  { after, canSee }: { readonly after: Position | undefined; readonly canSee: (repoId: string) => boolean },
  signal: AbortSignal,
): AsyncGenerator<ReplicaBatch> {
  // Read before the snapshot, so that keys that change meanwhile are sent again.
  const from = after ?? projector.indexProgress.position;
  if (after === undefined) yield* snapshot(projector.store, canSee);
  // Every type: an event that this release cannot decode makes its key unavailable.
  const skipTo = (position: Position | undefined) => projector.store.events.skipTo(position, canSee, undefined);
  for await (const batch of projector.tail.read(from, signal, { skipTo, canSee })) {
    const { position, caughtUp } = batch;
    yield { keys: changedKeys(batch, projector).filter(({ repoId }) => canSee(repoId)), position, caughtUp };
  }
}

async function* snapshot(store: ProjectionStore, canSee: (repoId: string) => boolean): AsyncGenerator<ReplicaBatch> {
  let keys: ReplicaKey[] = [];
  const giveWay = paced();
  for (const { repoId } of store.repositories.all()) {
    await giveWay();
    if (!canSee(repoId)) continue;
    for (const { key } of store.keys.ofRepository(repoId)) {
      keys.push(replicaKey(key));
      if (keys.length < SNAPSHOT_PAGE_SIZE) continue;
      yield { keys, position: undefined, caughtUp: false };
      keys = [];
      await giveWay();
    }
  }
  yield { keys, position: undefined, caughtUp: false };
}

function changedKeys({ events }: EventBatch, { store }: Projector): ReplicaKey[] {
  const ids = new Set(events.map(({ stream }) => apiKeyIdOf(stream) ?? ''));
  return [...ids].flatMap((id) => {
    const key = store.keys.get(id)?.key;
    return key ? [replicaKey(key)] : [];
  });
}

/** Field by field: nothing else of a key leaves the process. */
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

/** Hash of the repositories that a caller may follow: when it changes, the caller needs a new snapshot. */
export const replicaScope = (caller: Caller): string =>
  hashOf(
    JSON.stringify(
      Object.keys(caller.grants)
        .sort()
        .map((repoId) => [repoId, permits(caller, repoId, 'replica')]),
    ),
  );
