import type { EventStore } from '../event-store/event-store.js';
import { chunksOf } from '../grouping.js';
import type { EventRef } from '../projections/event-filter.js';
import type { HistoryEntry } from './describe-event.js';
import { streamHistory } from './history.js';

/** Streams read concurrently. */
const CONCURRENT_READS = 32;

/**
 * Reads the events to which the projections refer, in their order; reads each stream once.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function readEntries(log: EventStore, refs: readonly EventRef[]): Promise<HistoryEntry[]> {
  const streams = [...new Set(refs.map(({ stream }) => stream))];
  const found = new Map<string, HistoryEntry>();
  const read = async (stream: string) => {
    for await (const entry of streamHistory(log, stream)) found.set(`${stream} ${entry.revision}`, entry);
  };
  for (const chunk of chunksOf(streams, CONCURRENT_READS)) await Promise.all(chunk.map(read));
  return refs.flatMap(({ stream, revision }) => found.get(`${stream} ${revision}`) ?? []);
}
