import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { pino } from 'pino';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { KeyledgerError } from '../src/domain/errors.js';
import type { EventBatch, EventStore, RecordedEvent } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { buildProjections } from '../src/projections/local/build.js';
import { Projector } from '../src/projections/projector.js';
import { Tail } from '../src/projections/tail.js';
import { readFeed } from '../src/subscribers/feed.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

const folder = temporaryFolder();
let log: EventStore;
let projector: Projector;
const fail = (error: Error) => {
  throw error;
};
beforeAll(async () => {
  log = await openSqliteLog(join(folder.path, 'log.db'), fail);
  projector = new Projector({
    log,
    folder: folder.path,
    readModel: undefined,
    logger: pino({ level: process.env['LOGX'] ?? 'silent' }),
    clock: Date.now,
    onLogReplaced: fail,
  });
  projector.start();
  // Exceeds what the tail keeps in memory, so that readers can fall behind it.
  await write(3000);
  const end = await log.end();
  await eventually(() => projector.status.verify.ok && projector.indexProgress.hasReached(end));
});
afterAll(async () => {
  await projector.stop();
  await log.close();
  folder.remove();
});

let written = 0;
/** Appends one event each to new keys: every 700th is of repository b, all others are of a. */
async function write(count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, () => appendTo(log, written++ % 700 === 699 ? 'b' : 'a')));
}
function appendTo(to: EventStore, repoId: string) {
  const apiKeyId = randomUUID();
  const event = { id: randomUUID(), type: 'ApiKeyCreated', data: { apiKeyId, repoId }, metadata: {} };
  return to.append(apiKeyStream(apiKeyId), [event], 'no-stream');
}

async function all(): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  for await (const event of log.readAll()) events.push(event);
  return events;
}

type From = { readonly part: number } | 'start' | 'end';
type Plan = { readonly from: From; readonly visible: readonly string[]; readonly turns: number };
const from: fc.Arbitrary<From> = fc.oneof(
  fc.constantFrom('start' as const, 'end' as const),
  fc.double({ min: 0, max: 1, noNaN: true }).map((part) => ({ part })),
);
const plans: fc.Arbitrary<Plan[]> = fc.array(
  fc.record({
    from,
    visible: fc.constantFrom<string[]>(['a', 'b'], ['a'], ['b'], []),
    /** Turns of the event loop that the reader spends on a batch. */
    turns: fc.constantFrom(0, 0, 1, 20),
  }),
  { minLength: 1, maxLength: 5 },
);

/** Position at which a reader starts, and the number of events before it. */
function beginning(plan: From, events: readonly RecordedEvent[]) {
  if (plan === 'start') return { after: undefined, before: 0 };
  const before = plan === 'end' ? events.length : Math.ceil(plan.part * events.length) || 1;
  return { after: (events[before - 1] as RecordedEvent).position, before };
}

/** Reads as planned until aborted. */
function reader({ visible, turns }: Plan, after: Position | undefined, signal: AbortSignal) {
  const state = { received: [] as string[], reached: after ?? '' };
  const query = { after, canSee: (repoId: string) => visible.includes(repoId), types: undefined };
  const done = (async () => {
    for await (const { events, position } of readFeed(projector, query, signal)) {
      state.received.push(...events.map(({ event }) => event.id));
      for (let turn = 0; turn < turns; turn++) await setImmediate();
      expect(position >= state.reached).toBe(true);
      state.reached = position;
    }
  })();
  return { state, done };
}

describe('the tail', () => {
  it('gives each reader every event for it exactly once and in order, wherever it begins and while others write', async () => {
    const writes = fc.array(fc.integer({ min: 1, max: 500 }), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(plans, writes, async (planned, counts) => {
        const before = await all();
        const stop = new AbortController();
        const readers = planned.map((plan) => {
          const { after, before: skipped } = beginning(plan.from, before);
          return { plan, skipped, ...reader(plan, after, stop.signal) };
        });
        for (const count of counts) await write(count);
        const events = await all();
        const end = await log.end();
        await eventually(() => readers.every(({ state }) => state.reached >= end));
        stop.abort();
        for (const { plan, skipped, state, done } of readers) {
          await done;
          const wanted = events
            .slice(skipped)
            .filter(({ data }) => plan.visible.includes((data as { repoId: string }).repoId));
          expect(state.received).toEqual(wanted.map(({ id }) => id));
        }
        expect(projector.tail.waiting).toBe(0);
      }),
      { numRuns: 25, endOnFailure: true },
    );
  }, 120_000);

  it('keeps nothing of a reader that has stopped, while it waited or in the middle', async () => {
    const stop = new AbortController();
    const end = await log.end();
    const plan: Plan = { from: 'end', visible: ['a'], turns: 0 };
    const waiting = Array.from({ length: 10 }, () => reader(plan, end, stop.signal));
    await eventually(() => projector.tail.waiting === 10);
    stop.abort();
    expect(projector.tail.waiting).toBe(0);
    await Promise.all(waiting.map(({ done }) => done));

    for await (const batch of projector.tail.read(undefined, new AbortController().signal)) {
      expect(batch.events.length).toBeGreaterThan(0);
      break;
    }
    for await (const batch of projector.tail.read(end, new AbortController().signal)) {
      expect(batch).toMatchObject({ events: [], position: end });
      break;
    }
    expect(projector.tail.waiting).toBe(0);
  });

  it('lets who waits know again and again how far it is, though nothing happens', async () => {
    const stop = new AbortController();
    const end = await log.end();
    const pages: EventBatch[] = [];
    for await (const batch of projector.tail.read(end, stop.signal)) {
      pages.push(batch);
      if (pages.length === 3) break;
    }
    expect(pages).toEqual(Array(3).fill({ events: [], position: end, caughtUp: true }));
  });

  it('is never ahead of what has been folded, not even for a reader of the log', async () => {
    const events = await all();
    const tail = new Tail(log);
    const take = (some: readonly RecordedEvent[], caughtUp: boolean) =>
      tail.publish({ events: some, position: (some.at(-1) as RecordedEvent).position, caughtUp }, new Set());
    // The second pushes the first out of memory, and a page of the log would reach beyond both.
    take(events.slice(0, 1100), false);
    take(events.slice(1100, 1110), false);
    const received: RecordedEvent[] = [];
    for await (const batch of tail.read(undefined, new AbortController().signal)) {
      received.push(...batch.events);
      expect(batch.position).toBe((received.at(-1) as RecordedEvent).position);
      if (received.length === 1110) take(events.slice(1110), true);
      if (batch.caughtUp) break;
    }
    expect(received).toEqual(events);
  });

  it('wakes nobody for what happens in other repositories, and yet moves everybody on', async () => {
    const { signal } = new AbortController();
    const interest = { skipTo: () => undefined, canSee: (repoId: string) => repoId === 'mine' };
    const tail = new Tail(log);
    const events = await all();
    const take = (from: number, repoId: string) => {
      const some = events.slice(from, from + 1);
      const { position } = some[0] as RecordedEvent;
      tail.publish({ events: some, position, caughtUp: true }, new Set([repoId]));
      return position;
    };
    const first = take(0, 'mine');
    const reader = tail.read(first, signal, interest);
    await reader.next();
    const next = reader.next();
    await eventually(() => tail.waiting === 1);
    const second = take(1, 'other');
    expect(tail.waiting).toBe(1);
    expect((await next).value).toEqual({ events: [], position: second, caughtUp: true });
    const third = reader.next();
    await eventually(() => tail.waiting === 1);
    take(2, 'mine');
    expect((await third).value).toMatchObject({ events: [events[2]] });
  });

  it('tells at once what was folded while a reader was busy with nothing', async () => {
    const { signal } = new AbortController();
    const tail = new Tail(log);
    const events = (await all()).slice(0, 2);
    const [one, two] = events as [RecordedEvent, RecordedEvent];
    tail.publish({ events: [one], position: one.position, caughtUp: true }, new Set());
    const reader = tail.read(one.position, signal);
    await reader.next();
    tail.publish({ events: [two], position: two.position, caughtUp: true }, new Set());
    const next = reader.next();
    expect(tail.waiting).toBe(0);
    expect((await next).value).toMatchObject({ events: [two] });
  });

  it('ends for every reader when nothing is folded any more', async () => {
    const other = new Tail(log);
    const { signal } = new AbortController();
    const readings = ['from the first', 'from the end'].map(async (where) => {
      for await (const _ of other.read(where === 'from the end' ? await log.end() : undefined, signal));
    });
    await eventually(() => other.waiting === readings.length);
    other.fail(new KeyledgerError('UNAVAILABLE'));
    for (const reading of [...readings, other.read(undefined, signal).next()]) {
      await expect(reading).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    }
  });

  it('passes over at once what is far and not for the reader', async () => {
    const stop = new AbortController();
    const { received, reached } = { received: [] as string[], reached: [] as Position[] };
    const query = { after: undefined, canSee: (repoId: string) => repoId === 'b', types: undefined };
    const end = await log.end();
    for await (const { events, position } of readFeed(projector, query, stop.signal)) {
      received.push(...events.map(({ event }) => event.id));
      reached.push(position);
      if (position >= end) break;
    }
    const events = await all();
    const isB = ({ data }: RecordedEvent) => (data as { repoId: string }).repoId === 'b';
    expect(received).toEqual(events.filter(isB).map(({ id }) => id));
    const first = events.findIndex(isB);
    expect(first).toBe(699);
    expect(reached[0]).toBe(events[first - 1]?.position);
  });
});

describe('a projector whose projections are built elsewhere', () => {
  it('passes on what happened meanwhile to readers and webhooks', async () => {
    const own = temporaryFolder();
    const elsewhere = await openSqliteLog(join(own.path, 'log.db'), fail);
    const append = async (count: number) => {
      await Promise.all(Array.from({ length: count }, () => appendTo(elsewhere, 'a')));
    };
    await append(5001); // More than a projector folds by itself.
    const rebuilt = new Projector({
      log: elsewhere,
      folder: own.path,
      readModel: undefined,
      logger: pino({ level: 'silent' }),
      clock: Date.now,
      onLogReplaced: fail,
      buildFile: async (path) => {
        await append(20);
        await buildProjections(elsewhere, path, () => undefined);
      },
    });
    rebuilt.start();
    const stop = new AbortController();
    try {
      await eventually(() => rebuilt.status.ready.ok);
      const received: RecordedEvent[] = [];
      let webhooksTold = 0;
      rebuilt.onWebhookChanged((webhookId) => {
        if (webhookId === undefined) webhooksTold++;
      });
      const reading = (async () => {
        for await (const { events } of rebuilt.tail.read(undefined, stop.signal)) received.push(...events);
      })();
      await eventually(() => received.length === 5021 && rebuilt.tail.waiting === 1);
      rmSync(join(own.path, 'projections.db'));
      await eventually(() => received.length >= 5041);
      expect(new Set(received.map(({ id }) => id)).size).toBe(5041);
      expect(webhooksTold).toBe(1);
      stop.abort();
      await reading;
    } finally {
      stop.abort();
      await rebuilt.stop();
      await elsewhere.close();
      own.remove();
    }
  });
});
