import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../../../src/domain/ai-api-key.js';
import {
  type AppendRequest,
  type AppendResult,
  type EventBatch,
  type EventStore,
  type ExpectedRevision,
  MAX_EVENT_BYTES,
  type NewEvent,
  type RecordedEvent,
} from '../../../src/event-store/event-store.js';
import type { Position } from '../../../src/event-store/position.js';
import { STREAM_CATEGORIES } from '../../../src/event-store/streams.js';

const newStreamName = () => apiKeyStream(uuid());
const event = (data: object = {}, id = uuid()): NewEvent => ({
  id,
  type: 'Tested',
  data,
  metadata: { by: 'test' },
});
const events = (count: number): NewEvent[] => Array.from({ length: count }, (_, n) => event({ n }));
const idsOf = (some: readonly { id: string }[]) => some.map(({ id }) => id);

export async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of iterable) found.push(one);
  return found;
}

/** Reads a subscription until `enough` returns true, then ends it. */
async function until(
  batches: AsyncIterable<EventBatch>,
  stop: AbortController,
  enough: (mine: RecordedEvent[], batch: EventBatch) => boolean,
  isMine: (event: RecordedEvent) => boolean,
): Promise<RecordedEvent[]> {
  const mine: RecordedEvent[] = [];
  for await (const batch of batches) {
    mine.push(...batch.events.filter(isMine));
    if (enough(mine, batch)) stop.abort();
  }
  return mine;
}

/**
 * Contract of an event store. The log may hold foreign events: each test looks at its own streams only.
 * @param open opens the log; a process has one store open at a time
 */
export function describeEventStore(name: string, open: () => Promise<EventStore>): void {
  describe(`${name} as a log`, () => {
    let log: EventStore;
    beforeAll(async () => {
      log = await open();
    });
    afterAll(() => log.close());

    const appended = async (stream: string, some: readonly NewEvent[], expected: ExpectedRevision) => {
      const result = await log.append(stream, some, expected);
      if (!result.appended) throw new Error(`A conflict with ${result.actualRevision}`);
      return result;
    };
    const read = (stream: string) => all(log.readStream(stream));
    const subscription = (
      after: Position | undefined,
      streams: string[],
      enough: (mine: RecordedEvent[], batch: EventBatch) => boolean,
    ) => {
      const stop = new AbortController();
      return until(log.subscribe(after, stop.signal), stop, enough, ({ stream }) => streams.includes(stream));
    };

    it.each(STREAM_CATEGORIES)('reads and follows streams %s…', async (category) => {
      const stream = category + uuid();
      const before = await log.end();
      const one = event();
      const { position } = await appended(stream, [one], 'no-stream');
      expect((await all(log.readAll(before))).map(({ id }) => id)).toContain(one.id);
      expect(idsOf(await subscription(before, [stream], (mine) => mine.length > 0))).toEqual([one.id]);
      expect((await log.end()) >= position).toBe(true);
      expect((await log.eventAt(position))?.id).toBe(one.id);
    });

    it('passes over what no release of ours can have written, and says what', async () => {
      const before = await log.end();
      const [ours, foreign] = [newStreamName(), `aiApiKey-hello-${uuid()}`];
      const [one, two, other] = [event(), event(), event()];
      await appended(ours, [one], 'no-stream');
      const { position: foreignPosition } = await appended(foreign, [other], 'no-stream');
      const { position } = await appended(ours, [two], 0);
      const passed: RecordedEvent[] = [];
      const found = await all(log.readAll(before, (event) => passed.push(event)));
      expect(idsOf(found.filter(({ stream }) => stream === ours))).toEqual([one.id, two.id]);
      expect(idsOf(found)).not.toContain(other.id);
      expect(passed.filter(({ stream }) => stream === foreign)).toMatchObject([other]);
      const followed: EventBatch[] = [];
      await subscription(before, [ours], (_, batch) => {
        followed.push(batch);
        return batch.position >= position;
      });
      expect(idsOf(followed.flatMap(({ foreign = [] }) => foreign))).toContain(other.id);
      expect(idsOf(followed.flatMap(({ events }) => events))).not.toContain(other.id);
      expect(await log.eventAt(foreignPosition)).toBeUndefined();
    });

    describe('append', () => {
      it('gives events back as they came, with revisions from 0, rising positions and a time', async () => {
        const stream = newStreamName();
        const [a, b, c] = [event({ text: 'a' }), event({ deep: [{ n: 1.5, no: null }] }), event()];
        const first = await appended(stream, [a, b], 'no-stream');
        const second = await appended(stream, [c], first.revision);
        expect([first.revision, second.revision]).toEqual([1, 2]);
        expect(second.position > first.position).toBe(true);
        const found = await read(stream);
        expect(found).toMatchObject([a, b, c].map((one, revision) => ({ ...one, stream, revision })));
        expect(found.map(({ position }) => position)).toEqual([...found.map(({ position }) => position)].sort());
        expect(found.at(-1)?.position).toBe(second.position);
        for (const { recordedAt } of found) expect(new Date(recordedAt).toISOString()).toBe(recordedAt);
      });

      it('conflicts where the stream must not exist and does, and says where it is', async () => {
        const stream = newStreamName();
        await appended(stream, events(3), 'no-stream');
        expect(await log.append(stream, [event()], 'no-stream')).toEqual({
          appended: false,
          actualRevision: 2,
        });
        expect(await read(stream)).toHaveLength(3);
      });

      it.each([0, 1, 3, 99])('conflicts with revision %d where the last one is 2', async (expected) => {
        const stream = newStreamName();
        await appended(stream, events(3), 'no-stream');
        expect(await log.append(stream, [event()], expected)).toEqual({ appended: false, actualRevision: 2 });
      });

      it('conflicts with a revision where there is no stream', async () => {
        const stream = newStreamName();
        expect(await log.append(stream, [event()], 0)).toEqual({
          appended: false,
          actualRevision: 'no-stream',
        });
        expect(await read(stream)).toEqual([]);
      });

      it('repeated with the same ids at the same place gives the first result, and writes nothing', async () => {
        const stream = newStreamName();
        const [one, two, three] = [events(2), events(2), events(1)];
        const results = [await appended(stream, one, 'no-stream'), await appended(stream, two, 1)];
        await appended(stream, three, 3);
        expect(await log.append(stream, one, 'no-stream')).toEqual(results[0]);
        expect(await log.append(stream, two, 1)).toEqual(results[1]);
        expect(idsOf(await read(stream))).toEqual(idsOf([...one, ...two, ...three]));
      });

      it('repeated at the same time is written once', async () => {
        const stream = newStreamName();
        const batch = events(2);
        const results = await Promise.all(Array.from({ length: 10 }, () => log.append(stream, batch, 'no-stream')));
        for (const result of results) expect(result).toEqual(results[0]);
        expect(await read(stream)).toHaveLength(2);
      });

      it('repeated in part is a conflict', async () => {
        const stream = newStreamName();
        const [a, b] = [event(), event()];
        await appended(stream, [a, b], 'no-stream');
        for (const batch of [
          [a, event()],
          [event(), b],
          [b, a],
          [a, b, event()],
        ]) {
          expect(await log.append(stream, batch, 'no-stream')).toEqual({
            appended: false,
            actualRevision: 1,
          });
        }
        expect(await read(stream)).toHaveLength(2);
      });

      it('takes the same id elsewhere for another event', async () => {
        const [stream, other] = [newStreamName(), newStreamName()];
        const one = event();
        await appended(stream, [one], 'no-stream');
        await appended(other, [one], 'no-stream');
        await appended(stream, [one], 0);
        expect([idsOf(await read(stream)), idsOf(await read(other))]).toEqual([[one.id, one.id], [one.id]]);
      });

      it('takes all of a batch or nothing', async () => {
        const stream = newStreamName();
        const tooLarge = event({ text: 'x'.repeat(MAX_EVENT_BYTES) });
        await expect((async () => log.append(stream, [event(), tooLarge, event()], 'no-stream'))()).rejects.toThrow(
          RangeError,
        );
        expect(await read(stream)).toEqual([]);
        await expect((async () => log.append(stream, [], 'no-stream'))()).rejects.toThrow(RangeError);
      });

      it('takes an event of 1 MiB', async () => {
        const stream = newStreamName();
        const rest = Buffer.byteLength(JSON.stringify({ text: '' }) + JSON.stringify({ by: 'test' }));
        const large = { text: 'ü'.repeat((MAX_EVENT_BYTES - rest - 1) / 2) };
        await appended(stream, [event(large)], 'no-stream');
        expect((await read(stream))[0]?.data).toEqual(large);
      });

      it('keeps every character', async () => {
        const stream = newStreamName();
        const text = '🔑 e\u0301 ʏ עברית العربية \u2028\u2029\u0000\u001f"\\\ufeff';
        await appended(stream, [{ ...event({ text, [text]: 1 }), metadata: { text } }], 'no-stream');
        expect((await read(stream))[0]).toMatchObject({ data: { text, [text]: 1 }, metadata: { text } });
      });

      it('by many writers at one stream lets exactly one win each revision', async () => {
        const stream = newStreamName();
        let wins = 0;
        const writer = async () => {
          for (let expected: ExpectedRevision = 'no-stream'; ; ) {
            const result: AppendResult = await log.append(stream, [event()], expected);
            if (result.appended) wins++;
            expected = result.appended ? result.revision : result.actualRevision;
            if (typeof expected === 'number' && expected >= 30) return;
          }
        };
        await Promise.all(Array.from({ length: 8 }, writer));
        const revisions = (await read(stream)).map(({ revision }) => revision);
        expect(revisions).toEqual(Array.from({ length: wins }, (_, n) => n));
      });
    });

    describe('appends in order', () => {
      type Written = [stream: string, id: string];
      const written = async (since: Position, streams: readonly string[]): Promise<Written[]> =>
        (await all(log.readAll(since)))
          .filter(({ stream }) => streams.includes(stream))
          .map(({ stream, id }): Written => [stream, id]);
      async function* given(appends: readonly AppendRequest[]): AsyncIterable<AppendRequest> {
        yield* appends;
      }

      it('stand in the log as they were given, and repeated they are written once', async () => {
        const streams = Array.from({ length: 40 }, newStreamName);
        const ends = new Map<string, ExpectedRevision>();
        const appends = Array.from({ length: 3000 }, (_, n): AppendRequest => {
          const stream = streams[(n * n + n) % streams.length] as string;
          const some = events(1 + (n % 3));
          const expected = ends.get(stream) ?? 'no-stream';
          ends.set(stream, (expected === 'no-stream' ? -1 : expected) + some.length);
          return { stream, events: some, expectedRevision: expected };
        });
        const since = await log.end();
        await log.bulkAppend(given(appends.slice(0, 2500)));
        await log.bulkAppend(given(appends));
        const expected = appends.flatMap(({ stream, events: some }) => some.map(({ id }): Written => [stream, id]));
        expect(await written(since, streams)).toEqual(expected);
      });

      it('may be large ones, or none at all', async () => {
        const streams = Array.from({ length: 12 }, newStreamName);
        const text = 'x'.repeat(900 * 1024);
        const appends = streams.map(
          (stream): AppendRequest => ({ stream, events: [event({ text })], expectedRevision: 'no-stream' }),
        );
        const since = await log.end();
        await log.bulkAppend(given(appends));
        await log.bulkAppend(given([]));
        expect(await written(since, streams)).toEqual(appends.map(({ stream, events: [one] }) => [stream, one?.id]));
      });

      it('end at the first that is in conflict, and say which', async () => {
        const [before, stream] = [newStreamName(), newStreamName()];
        await appended(stream, events(2), 'no-stream');
        const first: AppendRequest = { stream: before, events: events(1), expectedRevision: 'no-stream' };
        const conflicting: AppendRequest = { stream, events: events(1), expectedRevision: 'no-stream' };
        expect(await log.bulkAppend(given([first, conflicting]))).toEqual({
          appended: false,
          stream,
          actualRevision: 1,
        });
        expect([await read(before), await read(stream)].map(({ length }) => length)).toEqual([1, 2]);
      });

      it('end with the failure of where they come from, after what came before it', async () => {
        const stream = newStreamName();
        async function* failing(): AsyncIterable<AppendRequest> {
          yield { stream, events: events(1), expectedRevision: 'no-stream' };
          throw new Error('There is no more');
        }
        await expect(log.bulkAppend(failing())).rejects.toThrow('There is no more');
        await log.bulkAppend(given([{ stream, events: events(1), expectedRevision: 0 }]));
        expect(await read(stream)).toHaveLength(2);
      });

      it('refuse what append refuses', async () => {
        const large = event({ text: 'x'.repeat(MAX_EVENT_BYTES) });
        for (const some of [[], [large]]) {
          const stream = newStreamName();
          const appends = given([{ stream, events: some, expectedRevision: 'no-stream' }]);
          await expect(log.bulkAppend(appends)).rejects.toThrow(RangeError);
          expect(await read(stream)).toEqual([]);
        }
      });
    });

    describe('reading', () => {
      it('a stream that does not exist gives nothing', async () => expect(await read(newStreamName())).toEqual([]));

      it('everything after a position leaves that position out', async () => {
        const [one, two] = [newStreamName(), newStreamName()];
        const { position } = await appended(one, events(2), 'no-stream');
        await appended(two, events(2), 'no-stream');
        await appended(one, events(1), 1);
        const found = (await all(log.readAll(position))).filter(({ stream }) => [one, two].includes(stream));
        expect(found.map(({ stream, revision }) => [stream, revision])).toEqual([
          [two, 0],
          [two, 1],
          [one, 2],
        ]);
        expect(found).toEqual([...(await read(two)), ...(await read(one)).slice(2)]);
      });

      it('everything from the start begins with the oldest', async () => {
        const stream = newStreamName();
        await appended(stream, events(2), 'no-stream');
        const found = await all(log.readAll());
        const positions = found.map(({ position }) => position);
        expect(positions).toEqual([...positions].sort());
        expect(new Set(positions).size).toBe(positions.length);
        expect(found.slice(-2)).toEqual(await read(stream));
      });

      it('many events of one stream and of all of them reads each once', async () => {
        const stream = newStreamName();
        const before = await log.end();
        for (let n = 0; n < 4; n++) await appended(stream, events(400), n === 0 ? 'no-stream' : n * 400 - 1);
        const revisions = Array.from({ length: 1600 }, (_, n) => n);
        expect((await read(stream)).map(({ revision }) => revision)).toEqual(revisions);
        const after = (await all(log.readAll(before))).filter((one) => one.stream === stream);
        expect(after.map(({ revision }) => revision)).toEqual(revisions);
      });

      it('after the end gives nothing, and the end is where the last event is', async () => {
        const { position } = await appended(newStreamName(), events(1), 'no-stream');
        const end = await log.end();
        expect(end >= position).toBe(true);
        expect(await all(log.readAll(end))).toEqual([]);
      });

      it('after a position of another log is refused', async () => {
        const other = (uuid() + (await log.end()).slice(36)) as Position;
        await expect(all(log.readAll(other))).rejects.toMatchObject({ code: 'OTHER_LOG' });
        await expect(all(log.subscribe(other, new AbortController().signal))).rejects.toMatchObject({
          code: 'OTHER_LOG',
        });
      });

      it('gives the event at a position, and none where there is none', async () => {
        const written = events(2);
        const stream = newStreamName();
        const { position } = await appended(stream, written, 'no-stream');
        expect(await log.eventAt(position)).toMatchObject({ ...written[1], stream, revision: 1, position });
        const beyond = `${position.slice(0, 37)}${'7'.padEnd(position.length - 37, 'f')}` as Position;
        expect(await log.eventAt(beyond)).toBeUndefined();
        const before = `${position.slice(0, 37)}${'1'.padStart(position.length - 37, '0')}` as Position;
        expect(await log.eventAt(before)).toBeUndefined();
        const elsewhere = (uuid() + position.slice(36)) as Position;
        await expect(log.eventAt(elsewhere)).rejects.toMatchObject({ code: 'OTHER_LOG' });
      });
    });

    describe('a subscription', () => {
      it('from the start begins with the oldest, and says when it has caught up', async () => {
        const stream = newStreamName();
        const written = events(3);
        await appended(stream, written, 'no-stream');
        let caughtUp = false;
        const found = await subscription(undefined, [stream], (_, batch) => {
          caughtUp ||= batch.caughtUp;
          return batch.caughtUp;
        });
        expect(idsOf(found)).toEqual(idsOf(written));
        expect(caughtUp).toBe(true);
      });

      it('from a position begins after it', async () => {
        const stream = newStreamName();
        const { position } = await appended(stream, events(2), 'no-stream');
        const later = events(2);
        await appended(stream, later, 1);
        expect(idsOf(await subscription(position, [stream], (mine) => mine.length === 2))).toEqual(idsOf(later));
      });

      it('says that it has caught up where there is nothing, and then gives what comes', async () => {
        const stream = newStreamName();
        const written = events(2);
        let appending: Promise<unknown> | undefined;
        const found = await subscription(await log.end(), [stream], (mine, { caughtUp }) => {
          if (caughtUp) appending ??= appended(stream, written, 'no-stream');
          return mine.length === 2;
        });
        await appending;
        expect(idsOf(found)).toEqual(idsOf(written));
      });

      it('reaches the end of the log, so that who waits for it does not wait for ever', async () => {
        await appended(newStreamName(), events(1), 'no-stream');
        const end = await log.end();
        await subscription(undefined, [], ({ length }, { position }) => length === 0 && position >= end);
      });

      it('gives every event once, in order and without a gap, while many write', async () => {
        const streams = Array.from({ length: 20 }, newStreamName);
        const start = await log.end();
        const writing = Promise.all(
          streams.map(async (stream) => {
            for (let n = 0; n < 20; n++) await appended(stream, [event({ n })], n === 0 ? 'no-stream' : n - 1);
          }),
        );
        const found = await subscription(start, streams, (mine) => mine.length >= 400);
        await writing;
        for (const stream of streams) {
          const revisions = found.filter((one) => one.stream === stream).map(({ revision }) => revision);
          expect(revisions).toEqual(Array.from({ length: 20 }, (_, n) => n));
        }
        const positions = found.map(({ position }) => position);
        expect(positions).toEqual([...positions].sort());
        expect(found).toEqual((await all(log.readAll(start))).filter(({ stream }) => streams.includes(stream)));
      });

      it('ends when aborted, also before it begins', async () => {
        const stop = new AbortController();
        stop.abort();
        expect((await all(log.subscribe(undefined, stop.signal))).flatMap(({ events: found }) => found)).toEqual([]);
        await subscription(await log.end(), [], () => true);
      });
    });

    it('opened again is the same log, and repeats are still recognised', async () => {
      const stream = newStreamName();
      const batch = events(2);
      const first = await appended(stream, batch, 'no-stream');
      const { logId } = log;
      await log.close();
      log = await open();
      expect(log.logId).toBe(logId);
      expect(await log.append(stream, batch, 'no-stream')).toEqual(first);
      expect(await read(stream)).toHaveLength(2);
    });
  });
}
