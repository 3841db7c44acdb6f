import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import type { EventStore, NewEvent, RecordedEvent } from '../src/event-store/event-store.js';
import { openEventStoreDbLog } from '../src/event-store/eventstoredb/log.js';
import type { Position } from '../src/event-store/position.js';
import { eventually } from './support/assertions/eventually.js';
import { all, describeEventStore } from './support/contracts/event-store.js';
import { describeEventStoreModel } from './support/models/event-store.js';
import {
  type EventStoreDbServer,
  eventStoreDbSource,
  startEventStoreDb,
} from './support/servers/eventstoredb-server.js';
import { TcpProxy } from './support/servers/tcp-proxy.js';

/** Milliseconds that a caller is promised, and some tolerance for the test. */
const SOON = 5000;
const unexpected = (error: Error) => {
  throw error;
};
/** Ignores warnings about streams that other tests have limited in a shared database. */
const warned = () => {};
const newStreamName = () => apiKeyStream(uuid());
const event = (): NewEvent => ({ id: uuid(), type: 'Tested', data: {}, metadata: {} });
const revisionsOf = (events: RecordedEvent[]) => events.map(({ revision }) => revision);
/** Error code of a promise, and its duration in milliseconds. */
async function failureOf(promise: Promise<unknown>): Promise<{ code: unknown; ms: number }> {
  const start = performance.now();
  const code = await promise.then(
    () => 'no-stream',
    (error) => error.code,
  );
  return { code, ms: performance.now() - start };
}

(eventStoreDbSource ? describe : describe.skip)('EventStoreDB', () => {
  let server: EventStoreDbServer;
  let url: string;
  beforeAll(async () => {
    server = await startEventStoreDb();
    url = server.url;
  }, 120_000);
  afterAll(() => server.stop());

  describeEventStore('EventStoreDB', () => openEventStoreDbLog(url, { onFatal: unexpected, warn: warned }));
  describeEventStoreModel('EventStoreDB', () => openEventStoreDbLog(url, { onFatal: unexpected, warn: warned }));

  describe('beside the streams of others', () => {
    let log: EventStore;
    beforeAll(async () => {
      log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned });
    });
    afterAll(() => log.close());

    it('gives ours alone, and ends where a subscriber gets to', async () => {
      const [ours, others] = [newStreamName(), `other-${uuid()}`];
      const start = await log.end();
      await log.append(ours, [event()], 'no-stream');
      for (let n = 0; n < 40; n++) await log.append(others, [event()], n === 0 ? 'no-stream' : n - 1);
      const end = await log.end();
      const stop = new AbortController();
      const found: RecordedEvent[] = [];
      for await (const { events, position } of log.subscribe(start, stop.signal)) {
        found.push(...events);
        if (position >= end) stop.abort();
      }
      found.push(...(await all(log.readAll(start))));
      expect(found.filter(({ stream }) => stream === ours)).toHaveLength(2);
      expect(found.filter(({ stream }) => stream === others)).toEqual([]);
    });

    it('ends at the last event of Keyledger, even if foreign ones with similar names follow', async () => {
      const ours = newStreamName();
      const { position } = (await log.append(ours, [event()], 'no-stream')) as { position: string };
      await log.append(`aiApiKey-${uuid()}-x`, [event()], 'no-stream');
      expect((await log.end()) >= position).toBe(true);
      expect(await log.eventAt(await log.end())).toBeDefined();
    });

    it('gives no reader the place of an event of others, also where it holds nothing else', async () => {
      await log.close();
      log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned, prefix: `none.${uuid()}.` });
      const beginning = await log.end();
      await log.append('aiApiKey-hello', [event()], 'no-stream');
      const stop = new AbortController();
      const positions = new Set<string>();
      let foreign = 0;
      for await (const page of log.subscribe(undefined, stop.signal)) {
        positions.add(page.position);
        foreign += page.foreign?.length ?? 0;
        if (foreign > 0) stop.abort();
      }
      expect([...positions]).toEqual([beginning]);
      expect(await log.end()).toBe(beginning);
      await log.close();
      log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned });
    });

    it('keeps logs with prefixes of their own apart, each with its own identity', async () => {
      const [one, two] = ['one', 'two'].map((name) => `${name}.${uuid()}.`);
      const stream = newStreamName();
      await log.close();
      const written = new Map<string, { logId: string; id: string }>();
      for (const prefix of [one, two, undefined]) {
        log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned, prefix });
        const mine = event();
        expect(await log.append(stream, [mine], 'no-stream')).toMatchObject({ appended: true, revision: 0 });
        written.set(prefix ?? '', { logId: log.logId, id: mine.id });
        expect((await all(log.readStream(stream))).map(({ id }) => id)).toEqual([mine.id]);
        const whole = await all(log.readAll());
        expect(whole.filter((recorded) => recorded.stream === stream).map(({ id }) => id)).toEqual([mine.id]);
        if (prefix !== undefined) {
          expect(whole).toHaveLength(1);
          expect(await log.end()).toBe(whole[0]?.position);
          expect((await log.eventAt(await log.end()))?.id).toBe(mine.id);
        }
        await log.close();
      }
      expect(new Set([...written.values()].map(({ logId }) => logId)).size).toBe(3);
      log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned, prefix: one });
      expect(log.logId).toBe(written.get(one ?? '')?.logId);
      const copied = newStreamName();
      await log.bulkAppend(
        (async function* () {
          yield { stream: copied, events: [event()], expectedRevision: 'no-stream' as const };
        })(),
      );
      expect(await all(log.readStream(copied))).toHaveLength(1);
      await log.close();
      log = await openEventStoreDbLog(url, { onFatal: unexpected, warn: warned });
      expect(await all(log.readStream(copied))).toEqual([]);
    });

    it('says which streams the server may shorten', async () => {
      const stream = newStreamName();
      await log.append(stream, [event()], 'no-stream');
      const limited = { ...event(), type: '$metadata', data: { $maxCount: 7 } };
      await log.append(`$$${stream}`, [limited], 'no-stream');
      await log.close();
      const warnings: string[] = [];
      log = await openEventStoreDbLog(url, {
        onFatal: unexpected,
        warn: (warning) => void warnings.push(warning),
      });
      await eventually(() => warnings.some((warning) => warning.includes(`${stream} ($maxCount 7)`)));
      await log.append(`$$${stream}`, [{ ...event(), type: '$metadata' }], 0);
    });

    it('lets the process end when it is closed', async () => {
      const script = `
        const { openEventStoreDbLog } = await import('./dist/src/event-store/eventstoredb/log.js');
        const log = await openEventStoreDbLog(process.argv[1], { onFatal: console.error, warn: () => {} });
        const reading = log.subscribe(undefined, new AbortController().signal)[Symbol.asyncIterator]();
        await reading.next();
        for await (const one of log.readAll()) break;
        await log.close();`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, url], {
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      expect(await once(child, 'exit')).toEqual([0, null]);
    });
  });

  describe('behind a network that fails', () => {
    let proxy: TcpProxy;
    let proxied: string;
    let log: EventStore;
    beforeAll(async () => {
      const [, host = '', port = ''] = /\/\/(?:.*@)?([^:/?]+):(\d+)/.exec(url) ?? [];
      proxy = new TcpProxy({ host, port: Number(port) });
      proxied = url.replace(`${host}:${port}`, `127.0.0.1:${await proxy.start()}`);
      log = await openEventStoreDbLog(proxied, { onFatal: unexpected, warn: warned });
    });
    afterEach(() => proxy.thaw());
    afterAll(async () => {
      await log.close();
      await proxy.stop();
    });

    it('fails fast without a connection, and works again with one', async () => {
      const stream = newStreamName();
      await proxy.stop();
      const read = await failureOf(all(log.readStream(stream)));
      const append = await failureOf(log.append(stream, [event()], 'no-stream'));
      expect([read.code, append.code]).toEqual(['UNAVAILABLE', 'UNAVAILABLE']);
      expect(Math.max(read.ms, append.ms)).toBeLessThan(SOON);
      await proxy.start();
      expect(await log.append(stream, [event()], 'no-stream')).toMatchObject({ appended: true });
      expect(revisionsOf(await all(log.readStream(stream)))).toEqual([0]);
    });

    it('answers soon that the outcome is unknown where the server is silent, and repeating it tells', async () => {
      const stream = newStreamName();
      const one = event();
      proxy.freeze();
      const [append, read, end] = await Promise.all([
        failureOf(log.append(stream, [one], 'no-stream')),
        failureOf(all(log.readStream(stream))),
        failureOf(log.end()),
      ]);
      expect([append.code, read.code, end.code]).toEqual(['OUTCOME_UNKNOWN', 'UNAVAILABLE', 'UNAVAILABLE']);
      expect(Math.max(append.ms, read.ms, end.ms)).toBeLessThan(SOON);
      proxy.thaw();
      expect(await log.append(stream, [one], 'no-stream')).toMatchObject({ appended: true, revision: 0 });
      expect(revisionsOf(await all(log.readStream(stream)))).toEqual([0]);
    });

    it('finds out what became of appends whose connection was cut, and does each once', async () => {
      const streams = Array.from({ length: 64 }, newStreamName);
      const appends = streams.map((stream) => log.append(stream, [event(), event()], 'no-stream'));
      await proxy.cut();
      for (const result of await Promise.all(appends)) expect(result).toMatchObject({ appended: true });
      for (const stream of streams) expect(revisionsOf(await all(log.readStream(stream)))).toEqual([0, 1]);
    });

    it.each([
      ['cut', () => proxy.cut()],
      ['silent', () => proxy.freeze()],
    ] as const)(
      'appends in order that are %s end, and repeated they are all there, in order',
      async (_, fail) => {
        const appends = Array.from({ length: 6000 }, () => ({ stream: newStreamName(), events: [event()] }));
        const start = await log.end();
        const appendsFailingAt = async function* (failAt: number) {
          for (const [n, append] of appends.entries()) {
            yield { ...append, expectedRevision: 'no-stream' as const };
            if (n === failAt) await fail();
          }
        };
        const { code } = await failureOf(log.bulkAppend(appendsFailingAt(3000)));
        expect(['OUTCOME_UNKNOWN', 'UNAVAILABLE']).toContain(code);
        proxy.thaw();
        const streams = new Set(appends.map(({ stream }) => stream));
        const written = async () =>
          (await all(log.readAll(start))).flatMap(({ stream }) => (streams.has(stream) ? [stream] : []));
        const first = await written();
        expect(first).toEqual([...streams].slice(0, first.length));
        await log.bulkAppend(appendsFailingAt(Number.POSITIVE_INFINITY));
        expect(await written()).toEqual([...streams]);
      },
      60_000,
    );

    it('a reading that found nothing hears nothing of a connection that is cut after it', async () => {
      const script = `
        const { openEventStoreDbLog } = await import('./dist/src/event-store/eventstoredb/log.js');
        const log = await openEventStoreDbLog(process.argv[1], { onFatal: console.error, warn: () => {} });
        for await (const page of log.subscribe(await log.end(), new AbortController().signal)) break;
        process.stdin.once('data', async () => {
          await log.append('aiApiKey-' + crypto.randomUUID(), [{ id: crypto.randomUUID(), type: 'T', data: {}, metadata: {} }], 'no-stream');
          process.exit(7);
        });
        console.log('read');`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, proxied], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      await proxy.cut();
      child.stdin.write('cut');
      expect(await once(child, 'exit')).toEqual([7, null]);
    });

    it.each([
      ['cut', () => proxy.cut()],
      ['silent', () => proxy.freeze()],
    ] as const)('a subscription that is %s throws, and another resumes after it', async (_, fail) => {
      const stream = newStreamName();
      const seen: RecordedEvent[] = [];
      let reached: Position = await log.end();
      const follow = async (enough: number) => {
        const stop = new AbortController();
        for await (const { events, position, caughtUp } of log.subscribe(reached, stop.signal)) {
          seen.push(...events.filter((one) => one.stream === stream));
          reached = position;
          if (caughtUp && enough === Number.POSITIVE_INFINITY) await fail();
          if (seen.length >= enough) stop.abort();
        }
      };
      await log.append(stream, [event(), event()], 'no-stream');
      await expect(follow(Number.POSITIVE_INFINITY)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      proxy.thaw();
      await log.append(stream, [event(), event()], 1);
      await follow(4);
      expect(revisionsOf(seen)).toEqual([0, 1, 2, 3]);
    });
  });
});
