import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { MAX_MARKS, type ReadMarks } from '../src/read-marks/read-marks.js';
import { openRedisReadMarks } from '../src/read-marks/redis-read-marks.js';
import { openSqliteReadMarks } from '../src/read-marks/sqlite-read-marks.js';
import { eventually } from './support/assertions/eventually.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';

const logger = pino({ level: 'silent' });

/** What every store of read marks must do. */
function describeReadMarks(name: string, open: () => ReadMarks): void {
  describe(`${name} as a store of read marks`, () => {
    let store: ReadMarks;
    beforeAll(async () => {
      store = open();
      await eventually(() =>
        store.of('any').then(
          () => true,
          () => false,
        ),
      );
    });
    afterAll(() => store.close());

    it('keeps the marks of each caller, also for the next process', async () => {
      const [ada, bob] = [randomUUID(), randomUUID()];
      await store.mark(ada, [1, 2 ** 52 - 1, 7, 7]);
      await store.mark(ada, [7, 8]);
      await store.mark(bob, [9]);
      await store.unmark(ada, [1, 5]);
      const next = open();
      await eventually(async () => (await next.of(bob).catch(() => undefined))?.size === 1);
      expect(await next.of(ada)).toEqual(new Set([2 ** 52 - 1, 7, 8]));
      await next.close();
    });

    it('forgets the oldest marks of a caller who has too many', async () => {
      const caller = randomUUID();
      for (let from = 0; from <= MAX_MARKS; from += 1000)
        await store.mark(
          caller,
          Array.from({ length: 1000 }, (_, i) => from + i),
        );
      const marks = await store.of(caller);
      expect(marks.size).toBe(MAX_MARKS);
      expect([marks.has(0), marks.has(MAX_MARKS + 999)]).toEqual([false, true]);
    });
  });
}

const folder = freshFolder();
afterAll(() => folder.remove());
describeReadMarks('SQLite', () => openSqliteReadMarks(join(folder.path, 'read-marks.db'), logger));

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('with a Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  }, 120_000);
  afterAll(() => server.stop());
  describeReadMarks('Redis', () => openRedisReadMarks(server.url, 'test'));
});
