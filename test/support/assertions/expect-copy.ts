import { expect } from '@jest/globals';
import type { HistoryEntry } from '../../../src/audit/describe-event.js';
import { history } from '../../../src/audit/history.js';
import type { EventStore, RecordedEvent } from '../../../src/event-store/event-store.js';
import { apiKeyIdOf } from '../../../src/event-store/streams.js';
import { type ListItem, toListItem } from '../../../src/projections/list-item.js';
import { eventsIn, withLogAt } from '../fixtures/log-copies.js';
import { KeyFold } from '../models/key-fold.js';

const SAMPLED_KEYS = 40;

/** Answers that a log and its copy share: lists and the histories of some keys, without positions. */
export const answersOf = (url: string) => withLogAt(url, answersIn);

async function answersIn(log: EventStore) {
  const index = new KeyFold();
  for await (const recorded of log.readAll()) if (apiKeyIdOf(recorded.stream)) index.apply(recorded);
  const items = [...index.entries()].map(toListItem);
  const lists = items.map(({ position: _, createdPosition: __, ...item }: ListItem) => item);
  const looked = [...items.slice(0, SAMPLED_KEYS), ...items.slice(-SAMPLED_KEYS)];
  const histories: Omit<HistoryEntry, 'position'>[] = [];
  for (const { apiKeyId } of looked) {
    for await (const { position: _, ...entry } of history(log, apiKeyId)) histories.push(entry);
  }
  return { lists, quarantined: index.quarantined, histories };
}

const kept = ({ position: _, recordedAt: __, metadata: ___, ...event }: RecordedEvent) => event;

/**
 * Asserts that a copy holds the first `count` events of the original (all by default) under another log id, and gives
 * the same answers.
 */
export async function expectCopy(original: string, copy: string, count?: number): Promise<void> {
  const [events, endOfOriginal, originalId] = await withLogAt(original, async (log) => {
    return [await eventsIn(log), await log.end(), log.logId] as const;
  });
  const exported = events.slice(0, count);
  await withLogAt(copy, async (log) => {
    const copied = await eventsIn(log);
    expect(copied.map(kept)).toEqual(exported.map(kept));
    for (const [i, { metadata }] of copied.entries()) {
      const { position, recordedAt, metadata: before } = exported[i] as RecordedEvent;
      const isObject = typeof before === 'object' && before !== null;
      expect(metadata).toEqual(isObject ? { importedFrom: { position, recordedAt }, ...before } : before);
    }
    expect(log.logId).not.toBe(originalId);
    const refused = { code: 'OTHER_LOG' };
    await expect(log.eventAt(endOfOriginal)).rejects.toMatchObject(refused);
    const reading = log.readAll(endOfOriginal)[Symbol.asyncIterator]();
    await expect(reading.next()).rejects.toMatchObject(refused);
  });
  const answers = await answersOf(original);
  expect(answers.quarantined).toBeGreaterThan(0);
  expect(await answersOf(copy)).toEqual(answers);
}
