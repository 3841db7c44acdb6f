import { type AiApiKey, apiKeyStream } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from '../projections/api-key-entry.js';
import { toListItem } from '../projections/list-item.js';
import { readLiveGeneration, type WriteResult, writeItems } from '../projections/redis/generations.js';
import { partitionKeys, partitionOf, versionRoot } from '../projections/redis/keys.js';
import type { Connection } from '../redis/connection.js';
import { foldKey } from './fold-key.js';

/** Event that put a key in quarantine, and the reason. */
export type QuarantineCause = {
  readonly position: Position;
  readonly revision: number;
  readonly type: string;
  readonly fault: string;
};

/** Quarantined stream; the cause is null if this release can read all of it. */
export type Quarantined = {
  readonly stream: string;
  readonly repoId: string;
  readonly cause: QuarantineCause | null;
};

/** Result of folding a key's stream with this release. */
export type QuarantineReport = {
  readonly quarantined: Quarantined;
  readonly entry: ApiKeyEntry;
  readonly status: AiApiKey['status'];
};

/** Folds a key's stream again; undefined if the log holds no such key. */
export async function inspectQuarantine(log: EventStore, apiKeyId: string): Promise<QuarantineReport | undefined> {
  const stream = apiKeyStream(apiKeyId);
  let entry: ApiKeyEntry | undefined;
  let cause: QuarantineCause | null = null;
  for await (const step of foldKey(log, apiKeyId)) {
    const { position, revision, type } = step.recorded;
    entry = step.entry;
    if (entry.key.status !== 'unavailable') cause = null;
    else cause ??= { position, revision, type, fault: step.fault ?? '' };
  }
  if (!entry) return undefined;
  const { repoId, status } = entry.key;
  return { quarantined: { stream, repoId, cause }, entry, status };
}

/**
 * Folds a stream again, and writes the key to the read model if this release can read all of it.
 * @returns undefined if the log holds no such key; with a cause if this release cannot read it, and nothing was written
 * @throws Error Redis holds no read model
 */
export async function liftQuarantine(
  log: EventStore,
  redis: Connection,
  prefix: string,
  apiKeyId: string,
): Promise<QuarantineReport | undefined> {
  const report = await inspectQuarantine(log, apiKeyId);
  if (!report || report.quarantined.cause) return report;
  const item = toListItem(report.entry);
  const partition = partitionKeys(versionRoot(prefix), partitionOf(item.repoId));
  for (let written: WriteResult = 'LOST'; written !== 'OK'; ) {
    const { generation } = await readLiveGeneration(redis, partition);
    if (generation === '') throw new Error('Redis holds no read model yet: start the service first');
    const target = { floor: '', checkpoint: undefined } as const;
    written = await writeItems(redis, partition, generation, [[item]], target);
  }
  return report;
}
