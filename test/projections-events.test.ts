import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { auditAccessStream } from '../src/domain/audit-access.js';
import type { RepositoryScope } from '../src/domain/authorization.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hex16, makePosition } from '../src/event-store/position.js';
import type { EventFilter } from '../src/projections/event-filter.js';
import type { Events } from '../src/projections/local/events.js';
import { createFile } from '../src/projections/local/file.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const keys = [randomUUID(), randomUUID(), randomUUID()];
const places = fc.constantFrom(...['1', '2'].map((low) => (place: number) => hex16(place) + hex16(BigInt(low))));
const start = Date.parse('2026-01-01T00:00:00Z');

type Made = { recorded: RecordedEvent; repoId: string | undefined; key: number; subject: string; at: number };
const happening = fc.record({
  key: fc.nat(2),
  repoId: fc.constantFrom('a', 'b', undefined),
  subject: fc.constantFrom('ada', 'bob'),
  type: fc.constantFrom('ApiKeyCreated', 'ApiKeyRenamed', 'AuditAccessed'),
  at: fc.nat(9),
  place: places,
  isBroken: fc.boolean(),
});
/** What happened once, or again and again: in the latter case over several groups, see EventTable. */
const livesOf = (times: number) =>
  fc.array(happening, { maxLength: 30 }).map((all) =>
    Array.from({ length: times }, () => all)
      .flat()
      .map(({ key, repoId, subject, type, at: second, place, isBroken }, i): Made => {
        // Later groups begin later, so that some are wholly within a span of time, or wholly outside.
        const at = second + 5 * Math.floor(i / 2000);
        const apiKeyId = keys[key] as string;
        const occurredAt = new Date(start + at * 1000).toISOString();
        const recorded = {
          id: randomUUID(),
          stream: type === 'AuditAccessed' ? auditAccessStream(randomUUID()) : apiKeyStream(apiKeyId),
          revision: i,
          position: makePosition(LOG, place(i * 10)),
          type,
          data: { apiKeyId },
          metadata: isBroken ? 'no-stream' : { occurredAt, actor: { issuer: 'x', subject } },
          recordedAt: new Date(start + 500).toISOString(),
        };
        const details = isBroken ? { subject: '', at: start + 500 } : { subject, at: start + at * 1000 };
        return { recorded, repoId, key, ...details };
      }),
  );
const lives = livesOf(1);
const bound = (made: readonly Made[]) =>
  fc.oneof(
    fc.constant(undefined),
    fc.nat(25).map((at) => ({ time: start + at * 1000 })),
    fc.nat(Math.max(0, made.length - 1)).map((i) => {
      const position = made[i]?.recorded.position;
      return position === undefined ? undefined : { position };
    }),
  );
const asked = (made: readonly Made[]) =>
  fc.record({
    types: fc.option(fc.constantFrom(new Set(['ApiKeyCreated']), new Set(['ApiKeyRenamed', 'Other'])), {
      nil: undefined,
    }),
    subject: fc.constantFrom(undefined, 'ada', 'nobody'),
    apiKeyId: fc.constantFrom(undefined, keys[0], randomUUID()),
    from: bound(made),
    to: bound(made),
    before: bound(made).map((one) => (one && 'position' in one ? one.position : undefined)),
  });

const isMeant = ({ recorded, key, subject, at }: Made, query: EventFilter): boolean => {
  const { types, from, to, before } = query;
  const { position, type } = recorded;
  return (
    (types?.has(type) ?? true) &&
    (query.subject === undefined || query.subject === subject) &&
    (query.apiKeyId === undefined || query.apiKeyId === keys[key]) &&
    (from === undefined || ('time' in from ? at >= from.time : position > from.position)) &&
    (to === undefined || ('time' in to ? at <= to.time : position <= to.position)) &&
    (before === undefined || position < before)
  );
};

const folder = temporaryFolder();
afterAll(() => folder.remove());

/** Calls back with the events of a projections store that holds these, committed in two parts. */
async function withEvents<T>(
  made: readonly Pick<Made, 'recorded' | 'repoId'>[],
  use: (events: Events) => Promise<T> | T,
): Promise<T> {
  const { db, store } = createFile(join(folder.path, 'projections.db'), LOG);
  try {
    const half = Math.floor(made.length / 2);
    for (const part of [made.slice(0, half), made.slice(half)]) {
      store.describe({});
      for (const { recorded, repoId } of part) store.events.add(recorded, repoId);
      store.commit();
    }
    return await use(store.events);
  } finally {
    db.close();
  }
}
const all = async (events: Events, ...query: [Parameters<Events['find']>[0], EventFilter]) =>
  (await events.find(...query, { take: Number.POSITIVE_INFINITY })).page;
const ALL: RepositoryScope = { includes: () => true, others: true, named: [] };
const only = (...named: string[]): RepositoryScope => ({
  includes: (repoId) => named.includes(repoId),
  others: false,
  named,
});
const allBut = (repoId: string): RepositoryScope => ({
  includes: (other) => other !== repoId,
  others: true,
  named: [repoId],
});

describe('the events in the projections', () => {
  it.each([
    { times: 1, numRuns: 200 },
    { times: 200, numRuns: 30 },
  ])('are found as by a search through all events, newest first: lives of $times times some events', async (of) => {
    const cases = livesOf(of.times).chain((made) => fc.tuple(fc.constant(made), asked(made)));
    await fc.assert(
      fc.asyncProperty(cases, fc.constantFrom('a', 'b'), async ([made, query], repoId) => {
        const found = (isIncluded: (one: Made) => boolean) =>
          made
            .filter((one) => isIncluded(one) && isMeant(one, query))
            .map(({ recorded: { stream, revision } }) => ({ stream, revision }))
            .reverse();
        await withEvents(made, async (events) => {
          expect(await all(events, repoId, query)).toEqual(found((one) => one.repoId === repoId));
          expect(await all(events, only(repoId, 'nowhere'), query)).toEqual(found((one) => one.repoId === repoId));
          expect(await all(events, only('b', 'a'), query)).toEqual(found((one) => one.repoId !== undefined));
          expect(await all(events, ALL, query)).toEqual(found((one) => one.repoId !== undefined));
          expect(await all(events, allBut(repoId), query)).toEqual(
            found((one) => one.repoId !== undefined && one.repoId !== repoId),
          );
        });
      }),
      { numRuns: of.numRuns },
    );
  });

  it('are found page by page, with the number of all', async () => {
    const cases = lives.chain((made) => fc.tuple(fc.constant(made), asked(made)));
    const page = fc.record({ skip: fc.nat(20), take: fc.integer({ min: 1, max: 20 }), countAll: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(cases, page, ([made, query], { skip, take, countAll }) =>
        withEvents(made, async (events) => {
          const found = await all(events, ALL, query);
          expect(await events.find(ALL, query, { skip, take, countAll })).toEqual({
            page: found.slice(skip, skip + take),
            found: countAll ? found.length : Math.min(found.length, skip + take),
          });
        }),
      ),
      { numRuns: 100 },
    );
  });

  it('are counted by type as a search finds them', async () => {
    const scopes = fc.constantFrom(ALL, only('a'), only('a', 'b', 'nowhere'), allBut('b'), only());
    const types = fc
      .subarray(['ApiKeyCreated', 'ApiKeyRenamed', 'AuditAccessed', 'Other'])
      .map((some) => new Set(some));
    await fc.assert(
      fc.asyncProperty(lives, scopes, types, (made, scope, some) =>
        withEvents(made, async (events) => {
          expect(events.count(scope, some)).toBe((await all(events, scope, { types: some })).length);
        }),
      ),
      { numRuns: 100 },
    );
  });

  it('are skipped where many are for others, and none that somebody asked for', async () => {
    const place = fc.constantFrom(
      (i: number) => hex16(i),
      (i: number) => hex16(2 ** 33 + i) + hex16(2 ** 33 + i),
      (i: number) => hex16(2 ** 33 + Math.floor(i / 3)) + hex16(i),
    );
    const stretch = fc.record({
      length: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 495, max: 505 }), fc.nat(1200)),
      repoId: fc.constantFrom('a', 'b', undefined),
      type: fc.constantFrom('ApiKeyCreated', 'ApiKeyRenamed'),
    });
    const stretches = fc.array(stretch, { minLength: 1, maxLength: 5 });
    const part = fc.double({ min: 0, max: 1, noNaN: true });
    const asked = fc.record({
      visible: fc.constantFrom<string[]>(['a'], ['b'], ['a', 'b'], ['c'], []),
      types: fc.constantFrom<string[] | undefined>(undefined, ['ApiKeyRenamed'], ['Other', 'ApiKeyCreated'], []),
      after: fc.oneof(fc.constant(undefined), part),
      isBetween: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(stretches, asked, place, (made, { visible, types, after: fraction, isBetween }, placeOf) => {
        // Events take every other place only: a reader may resume at a place without an event.
        const at = (i: number) => makePosition(LOG, placeOf(2 * i + 2));
        const events = made.flatMap(({ length, ...one }) => Array(length).fill(one) as (typeof one)[]);
        const recordedAt = new Date(start).toISOString();
        const rest = { id: randomUUID(), stream: apiKeyStream(randomUUID()), data: {}, metadata: {}, recordedAt };
        const stored = events.map(({ repoId, type }, i) => ({
          repoId,
          recorded: { ...rest, revision: i, position: at(i), type },
        }));
        const first = fraction === undefined ? 0 : Math.round(fraction * events.length);
        const between = makePosition(LOG, placeOf(2 * first + 1));
        const after = fraction === undefined ? undefined : isBetween || first === 0 ? between : at(first - 1);
        const found = events.findIndex(
          ({ repoId, type }, i) =>
            i >= first && repoId !== undefined && visible.includes(repoId) && (types?.includes(type) ?? true),
        );
        const next = found < 0 ? events.length : found;
        const expected = next - first < 500 ? undefined : at(next - 1);
        return withEvents(stored, (index) => {
          const skipped = index.skipTo(after, (repoId) => visible.includes(repoId), types && new Set(types));
          expect(skipped).toBe(expected);
        });
      }),
      { numRuns: 200 },
    );
  });

  it('are none in a repository that never was', async () => {
    await withEvents([], async (events) => expect(await all(events, 'shop', {})).toEqual([]));
  });
});
