import { streamOf } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { listItem } from '../projections/list.js';
import type { Connection } from '../projections/redis-connection.js';
import { liveOf, type Written, writeItems } from '../projections/redis-generations.js';
import { partitionAt, partitionOf, rootOf } from '../projections/redis-keys.js';
import type { KeyEntry } from '../projections/verify-index.js';
import { foldKey } from './fold-key.js';

/** The event that put a key in quarantine, and why. */
export type Cause = {
  readonly position: Position;
  readonly revision: number;
  readonly type: string;
  readonly fault: string;
};

/** A stream; the cause is null if this release can read all of it. */
export type Quarantined = { readonly stream: string; readonly repoId: string; readonly cause: Cause | null };

/** Is a key in quarantine, by this release? The entry is undefined if the log holds no such key. */
export async function quarantineOf(
  log: EventStore,
  apiKeyId: string,
): Promise<{ readonly quarantined: Quarantined; readonly entry: KeyEntry | undefined }> {
  let entry: KeyEntry | undefined;
  let cause: Cause | null = null;
  for await (const step of foldKey(log, apiKeyId)) {
    const { position, revision, type } = step.recorded;
    entry = step.entry;
    if (entry.key.status !== 'unavailable') cause = null;
    else cause ??= { position, revision, type, fault: step.fault ?? '' };
  }
  return {
    quarantined: { stream: streamOf(apiKeyId), repoId: entry?.key.repoId ?? '', cause },
    entry,
  };
}

/**
 * Folds a stream again, and lets the read model take the key over if this release can read all of it.
 * @throws Error the log holds no such key, or Redis no read model
 */
export async function release(
  log: EventStore,
  redis: Connection,
  prefix: string,
  apiKeyId: string,
): Promise<Quarantined & { readonly status: string }> {
  const { quarantined, entry } = await quarantineOf(log, apiKeyId);
  if (!entry) throw new Error(`The log holds no stream ${quarantined.stream}`);
  const { status } = entry.key;
  if (quarantined.cause) return { ...quarantined, status };
  const item = listItem(entry);
  const partition = partitionAt(rootOf(prefix), partitionOf(item.repoId));
  for (let written: Written = 'LOST'; written !== 'OK'; ) {
    const { generation } = await liveOf(redis, partition);
    if (generation === '') throw new Error('Redis holds no read model yet: start the service first');
    const to = { live: { floor: '', checkpoint: undefined } };
    written = await writeItems(redis, partition, generation, [item], to);
  }
  return { ...quarantined, status };
}
