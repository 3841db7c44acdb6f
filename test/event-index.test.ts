import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hex16, makePosition } from '../src/event-store/position.js';
import { type EventFilter, EventIndex } from '../src/projections/event-index.js';

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
const lives = fc.array(happening, { maxLength: 30 }).map((all) =>
  all.map(({ key, repoId, subject, type, at, place, isBroken }, i): Made => {
    const apiKeyId = keys[key] as string;
    const occurredAt = new Date(start + at * 1000).toISOString();
    const recorded = {
      id: randomUUID(),
      stream: type === 'AuditAccessed' ? `auditAccess-${i}` : apiKeyStream(apiKeyId),
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
const bound = (made: readonly Made[]) =>
  fc.oneof(
    fc.constant(undefined),
    fc.nat(9).map((at) => ({ time: start + at * 1000 })),
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

describe('the journal', () => {
  it('finds what a search through all events finds, newest first', () => {
    const cases = lives.chain((made) => fc.tuple(fc.constant(made), asked(made)));
    fc.assert(
      fc.property(cases, fc.constantFrom('a', 'b'), ([made, query], repoId) => {
        const eventIndex = new EventIndex();
        for (const { recorded, repoId: repo } of made) {
          eventIndex.add(recorded, repo);
          eventIndex.add(recorded, repo);
        }
        expect(eventIndex.length).toBe(made.length);
        const found = (canSee: (one: Made) => boolean) =>
          made
            .filter((one) => canSee(one) && isMeant(one, query))
            .map(({ recorded: { stream, revision, type } }) => ({ stream, revision, type }))
            .reverse();
        expect([...eventIndex.ofRepository(repoId, query)]).toEqual(found((one) => one.repoId === repoId));
        expect([...eventIndex.ofRepositories((one) => one === repoId, query)]).toEqual(
          found((one) => one.repoId === repoId),
        );
        expect([...eventIndex.ofRepositories(() => true, query)]).toEqual(found((one) => one.repoId !== undefined));
      }),
      { numRuns: 500 },
    );
  });

  it('passes over events that nobody asked for where they are many, and none that somebody did', () => {
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
    fc.assert(
      fc.property(stretches, asked, place, (made, { visible, types, after: afterFraction, isBetween }, placeOf) => {
        const eventIndex = new EventIndex();
        // Events take every other place only: a reader may resume at a place without an event.
        const at = (i: number) => makePosition(LOG, placeOf(2 * i + 2));
        const events = made.flatMap(({ length, ...one }) => Array(length).fill(one) as (typeof one)[]);
        for (const [i, { repoId, type }] of events.entries()) {
          const position = at(i);
          const recordedAt = new Date(start).toISOString();
          const recorded = { id: '', stream: `aiApiKey-${i}`, revision: 0, position, type, data: {} };
          eventIndex.add({ ...recorded, metadata: {}, recordedAt }, repoId);
        }
        const first = afterFraction === undefined ? 0 : Math.round(afterFraction * events.length);
        const between = makePosition(LOG, placeOf(2 * first + 1));
        const after = afterFraction === undefined ? undefined : isBetween || first === 0 ? between : at(first - 1);
        const found = events.findIndex(
          ({ repoId, type }, i) =>
            i >= first && repoId !== undefined && visible.includes(repoId) && (types?.includes(type) ?? true),
        );
        const next = found < 0 ? events.length : found;
        const expected = next - first < 500 ? undefined : at(next - 1);
        const skipped = eventIndex.skipTo(after, (repoId) => visible.includes(repoId), types && new Set(types));
        expect(skipped).toBe(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('knows nothing of a repository that never was', () => {
    expect([...new EventIndex().ofRepository('shop', {})]).toEqual([]);
  });
});
