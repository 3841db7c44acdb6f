import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { hex16, makePosition } from '../src/event-store/position.js';
import type { ListItem } from '../src/projections/list-item.js';
import type { KeySource, ReadModel } from '../src/projections/read-model.js';
import { partitionKeys, partitionOf, versionRoot } from '../src/projections/redis/keys.js';
import { openRedisReadModel } from '../src/projections/redis/read-model.js';
import { isRedisUrl } from '../src/redis/connection.js';
import { eventually } from './support/assertions/eventually.js';
import { describeReadModel } from './support/contracts/read-model.js';
import { keySourceOf } from './support/fixtures/key-source.js';
import { describeReadModelModel, type ReadModelStore } from './support/models/read-model.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';

const logger = pino({ level: 'silent' });
const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const at = (place: number) => makePosition(LOG, hex16(place));
const checkpoint = (place: number) => ({ position: at(place), eventId: `event-${place}` });
const item = (apiKeyId: string, place: number, repoId = 'shop'): ListItem => ({
  apiKeyId,
  repoId,
  name: apiKeyId,
  accessKey: `FB_AI_${apiKeyId}`,
  aiType: 'OPENAI',
  status: 'active',
  createdAt: '2026-01-01T00:00:00.000Z',
  deletedAt: null,
  expiresAt: null,
  revision: 0,
  createdPosition: at(place),
  position: at(place),
});

const keysOf = async (model: ReadModel): Promise<ListItem[]> => {
  const found: ListItem[] = [];
  for (;;) {
    const before = found.at(-1)?.createdPosition;
    const page = await model.list('shop', { includeDeleted: false, before, size: 1000 });
    found.push(...page);
    if (page.length < 1000) return found;
  }
};

/** Lua scripts: each acts atomically, like Redis itself. KEYS[1] is the prefix of the keys. */
const EMPTY = `for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do redis.call('DEL', key) end`;
const SAVE = `
local saved = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  if not string.find(key, '{writer}', 1, true) then
    saved[#saved + 1] = key
    saved[#saved + 1] = redis.call('DUMP', key)
  end
end
return saved`;
const GO_BACK = `${EMPTY}
for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end`;

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('Redis', () => {
  let server: RedisServer;
  let admin: Redis;
  const opened: ReadModel[] = [];
  const open = async (prefix: string) => {
    const model = openRedisReadModel(server.url, prefix, logger);
    opened.push(model);
    await eventually(() =>
      model.checkpoint('any').then(
        () => true,
        () => false,
      ),
    );
    return model;
  };
  const fresh = () => `test-${randomUUID()}`;
  const yes = async () => true;
  const no = async () => false;
  beforeAll(async () => {
    server = await startRedis();
    admin = new Redis(server.url);
  }, 120_000);
  afterAll(async () => {
    for (const model of opened) await model.close();
    admin.disconnect();
    await server.stop();
  });

  describeReadModel('Redis', () => open(fresh()));
  describeReadModelModel('Redis', () => storeOf(fresh()));

  function storeOf(prefix: string): ReadModelStore {
    let saved: Buffer[] = [];
    const damages = {
      emptied: () => admin.eval(EMPTY, 1, prefix),
      restored: () => admin.eval(GO_BACK, 1, prefix, ...saved),
      headless: (repoId: string) => admin.del(partitionKeys(versionRoot(prefix), partitionOf(repoId)).live),
    };
    return {
      open: () => open(prefix),
      shared: {
        freeWriter: async () => void (await admin.del(`${versionRoot(prefix)}:{writer}:lease`)),
        save: async () => {
          saved = (await admin.callBuffer('EVAL', SAVE, 1, prefix)) as Buffer[];
        },
        damage: async ({ how, repoId }) => void (await damages[how](repoId)),
      },
    };
  }

  const forget = async (prefix: string) => {
    const keys = await admin.keys(`${prefix}:*`);
    if (keys.length > 0) await admin.del(...keys);
  };

  it('that was emptied is lost, not empty', async () => {
    const prefix = fresh();
    const model = await open(prefix);
    await model.restore(keySourceOf([item('a', 1)], checkpoint(1)), no);
    await forget(prefix);
    await expect(keysOf(model)).rejects.toThrow('lost');
    await expect(model.get('shop', 'a')).rejects.toThrow('lost');
    await expect(model.apply([item('b', 2)], checkpoint(2))).rejects.toThrow('lost');
    await model.restore(keySourceOf([item('a', 1), item('b', 2)], checkpoint(2)), yes);
    expect((await keysOf(model)).map(({ apiKeyId }) => apiKeyId)).toEqual(['b', 'a']);
  });

  it('that went back in time is lost, and resumes from where it is', async () => {
    const prefix = fresh();
    const [base] = [prefix];
    const model = await open(prefix);
    await model.restore(keySourceOf([item('a', 1)], checkpoint(1)), no);
    const keys = await admin.keys(`${base}:*`);
    const backup = await Promise.all(keys.map(async (key) => [key, await admin.dumpBuffer(key)] as const));
    await model.apply([item('b', 2)], checkpoint(2));
    await forget(prefix);
    for (const [key, dump] of backup) if (dump) await admin.restore(key, 0, dump);
    await expect(keysOf(model)).rejects.toThrow('lost');
    await model.restore(keySourceOf([item('a', 1), item('b', 2)], checkpoint(2)), yes);
    expect(await keysOf(model)).toHaveLength(2);
  });

  it('half filled by somebody who died is never served, and is filled anew', async () => {
    const prefix = fresh();
    const model = await open(prefix);
    await model.restore(keySourceOf([item('a', 1), item('b', 2)], checkpoint(2)), no);
    const [live] = (await admin.keys(`${prefix}:*:live`)) as [string];
    await admin.del(live);
    await expect(keysOf(model)).rejects.toThrow('lost');
    const next = await open(prefix);
    await model.close();
    await next.restore(keySourceOf([item('b', 2)], checkpoint(2)), yes);
    expect((await keysOf(next)).map(({ apiKeyId }) => apiKeyId)).toEqual(['b']);
  });

  it('whose live generation was lost gets a new one from an instance that had nothing to restore', async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    await two.restore(keySourceOf(), yes);
    await one.restore(keySourceOf([item('a', 1)], checkpoint(1)), yes);
    expect(await keysOf(two)).toHaveLength(1);
    await one.close();
    const { live } = partitionKeys(versionRoot(prefix), partitionOf('shop'));
    await admin.del(live);
    await two.apply([item('a', 1), item('b', 2)], checkpoint(2));
    expect(await keysOf(two)).toHaveLength(2);
    await admin.del(live);
    const three = await open(prefix);
    await three.restore(keySourceOf(), yes);
    expect(await keysOf(three)).toEqual([]);
  });

  it('emptied while two fill it, each in the belief to be the one that writes, is never half there', async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    const many = Array.from({ length: 2_600 }, (_, n) => item(`key-${n}`, n + 1));
    const restore = async (model: ReadModel) => {
      for (let done = false; !done; ) {
        done = await model.restore(keySourceOf(many, checkpoint(2_600)), yes).then(
          () => true,
          () => false,
        );
      }
    };
    for (let round = 0; round < 10; round++) {
      await forget(prefix);
      let filled = false;
      const reading = (async () => {
        while (!filled) {
          const listed = await keysOf(two).catch(() => []);
          expect([0, 2_600]).toContain(listed.length);
        }
      })();
      await Promise.all([restore(one), restore(two), forget(prefix)]);
      await Promise.all([restore(one), restore(two)]);
      filled = true;
      await reading;
      for (const model of [one, two]) expect(await keysOf(model)).toHaveLength(2_600);
    }
  });

  it('is written by one of its instances; the others see it written', async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    await one.restore(keySourceOf(), no);
    await two.restore(keySourceOf(), no);
    const both = (items: ListItem[], place: number) =>
      Promise.all([one, two].map((model) => model.apply(items, checkpoint(place))));
    await both([item('a', 1), item('b', 2, 'other')], 2);
    await admin.config('RESETSTAT');
    const again = [item('a', 1), item('b', 2, 'other')].map((first, i) => ({
      ...first,
      revision: 1,
      position: at(3 + i),
    }));
    await both(again, 4);
    const stats = await admin.info('commandstats');
    const writes = /cmdstat_hset:calls=(\d+)/.exec(stats)?.[1];
    expect(Number(writes)).toBe(4);
    for (const model of [one, two]) expect(await keysOf(model)).toHaveLength(1);
  });

  it('is not written by an instance that waits for the writer, once its signal is aborted', async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    await one.restore(keySourceOf([item('a', 1)], checkpoint(1)), no);
    await two.restore(keySourceOf([item('a', 1)], checkpoint(1)), yes);
    const abort = new AbortController();
    const waiting = two.apply([item('b', 2)], checkpoint(2), abort.signal);
    abort.abort(new Error('another log'));
    await one.close();
    await expect(waiting).rejects.toThrow('another log');
    expect(await keysOf(two)).toHaveLength(1);
  });

  it('is not filled further when the signal is aborted meanwhile', async () => {
    const model = await open(fresh());
    await model.restore(keySourceOf([item('a', 1)], checkpoint(1)), no);
    const abort = new AbortController();
    const source = keySourceOf([item('b', 2), item('c', 3)], checkpoint(3));
    const abortedHalfway: KeySource = {
      ...source,
      async *all(includes) {
        for await (const items of source.all(includes)) {
          yield items;
          if (items.length > 0) abort.abort(new Error('another log'));
        }
      },
    };
    await expect(model.restore(abortedHalfway, no, abort.signal)).rejects.toThrow('another log');
    expect((await keysOf(model)).map(({ apiKeyId }) => apiKeyId)).toEqual(['a']);
  });

  it('is written by another instance when the writer has died', async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    await one.restore(keySourceOf([item('a', 1)], checkpoint(1)), no);
    await two.restore(keySourceOf([item('a', 1)], checkpoint(1)), yes);
    const waiting = two.apply([item('b', 2)], checkpoint(2));
    await one.close();
    await waiting;
    expect(await keysOf(two)).toHaveLength(2);
  });

  it('keeps a repository on one node of a cluster', async () => {
    const prefix = fresh();
    const model = await open(prefix);
    await model.apply([item('a', 1), item('b', 2, 'other')], checkpoint(2));
    for (const repoId of ['shop', 'other']) {
      const tags = (await admin.keys(`${prefix}:*:${repoId}`)).map((key) => /\{(\d+)\}/.exec(key)?.[1]);
      expect(tags).toHaveLength(3);
      expect(new Set(tags).size).toBe(1);
    }
  });
});

describe('a Redis URL', () => {
  it.each([
    'redis://127.0.0.1:6379',
    'rediss://user:p%40ss@cache.example/2',
    'redis+sentinel://:secret@s1.example:26379,s2.example:26379/mymaster',
    'redis+cluster://n1.example:7000,n2.example:7000',
    'rediss+cluster://[::1]:7000',
  ])('%s is one', (url) => expect(isRedisUrl(url)).toBe(true));
  it.each(['redis', 'http://x', 'redis://', 'redis+other://x', 'redis+sentinel://a:26379'])('%s is none', (url) =>
    expect(isRedisUrl(url)).toBe(false),
  );
});
