import { isApiKeyId } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import type { ApiKeyEntry } from '../projections/api-key-entry.js';
import { type ListItem, toListItem } from '../projections/list-item.js';
import { parseDocument, sortedSetMember, toDocument } from '../projections/redis/generations.js';
import type { StoredKey } from '../projections/redis/stored.js';
import { foldKey } from './fold-key.js';

type Key = { readonly repoId: string; readonly apiKeyId: string };

/**
 * Differences between the read model and the log for one key. Reads everything that Redis stores of the key atomically,
 * and compares it with the fold of the key's stream up to the stored revision, which must not precede the position that
 * the read model claims to have reached. So a read model that lags does not differ, nor one that is ahead of an earlier
 * look at the log.
 * @param members members of the lists that were found for the key, including unexpected ones
 * @param read reads what Redis stores of the key, and whether the lists contain this member
 */
export async function compareKey(
  log: EventStore,
  { repoId, apiKeyId }: Key,
  members: ReadonlySet<string>,
  read: (member: string) => Promise<StoredKey>,
): Promise<string[]> {
  const place = (await foldedEntries(log, apiKeyId))[0];
  const member = place ? sortedSetMember({ apiKeyId, createdPosition: place.createdPosition }) : '';
  const stored = await read(member);
  const differences: string[] = [];
  for (const other of members) {
    if (other === member) continue;
    const { inAll, inList } = await read(other);
    if (inAll || inList) differences.push(`the lists contain it at ${other}, which is not its creation`);
  }
  const { document, live, inAll, inList, isQuarantined } = stored;
  // Read the log after Redis, so that it includes all that Redis holds.
  const entries = await foldedEntries(log, apiKeyId);
  const reached = entries.findLast(({ position }) => position <= (live.checkpoint?.position ?? ''));
  const isHere = reached !== undefined && reached.key.repoId === repoId;
  if (document === null) return isHere ? [...differences, 'it is missing'] : differences;

  const revision = Number.parseInt(document, 10);
  const entry = entries.find((one) => one.revision === revision);
  if (entries.length === 0) return [...differences, 'the log holds no such key'];
  if (!entry) return [...differences, `the log holds no revision ${document.slice(0, 20).split(' ')[0]} of it`];
  if (entry.key.repoId !== repoId) {
    return [...differences, `the log has it in the repository ${entry.key.repoId}`];
  }
  if (reached && revision < reached.revision) {
    differences.push(`it is at revision ${revision}, but at ${reached.position} it was at ${reached.revision}`);
  }
  const item = toListItem(entry);
  if (document !== toDocument(item)) differences.push(...differingFields(document, item));
  if (!inAll) differences.push('the list of all keys lacks it');
  if (inList !== (item.status !== 'deleted')) {
    differences.push(inList ? 'it is deleted, but the list contains it' : 'the list lacks it');
  }
  if (isQuarantined !== (item.status === 'unavailable')) {
    differences.push(isQuarantined ? 'it is marked as quarantined' : 'it is not marked as quarantined');
  }
  return differences;
}

/** The key after each of its events. */
async function foldedEntries(log: EventStore, apiKeyId: string): Promise<ApiKeyEntry[]> {
  if (!isApiKeyId(apiKeyId)) return [];
  const entries: ApiKeyEntry[] = [];
  for await (const { entry } of foldKey(log, apiKeyId)) entries.push(entry);
  return entries;
}

function differingFields(document: string, item: ListItem): string[] {
  const stored = parseStored(document);
  if (!stored) return ['its document is not a JSON object'];
  const names = new Set([...Object.keys(item), ...Object.keys(stored)]) as Set<keyof ListItem>;
  const differing = [...names].filter((name) => stored[name] !== item[name]);
  if (differing.length === 0) return ['its document is formatted differently'];
  return differing.map(
    (name) => `${name} is ${JSON.stringify(stored[name])}, in the log ${JSON.stringify(item[name])}`,
  );
}

function parseStored(document: string): ListItem | undefined {
  try {
    const item: unknown = parseDocument(document);
    return typeof item === 'object' && item !== null ? (item as ListItem) : undefined;
  } catch {
    return undefined;
  }
}
