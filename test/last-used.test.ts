import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import type { LastUse, LastUsedStore } from '../src/last-used/last-used-store.js';
import { LastUsedTracker } from '../src/last-used/last-used-tracker.js';
import { openRedisLastUsedStore } from '../src/last-used/redis-last-used.js';
import { openSqliteLastUsedStore } from '../src/last-used/sqlite-last-used.js';
import { eventually } from './support/assertions/eventually.js';
import { inReach } from './support/contracts/last-used-store.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { freePort, type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';

const at = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;
let folder: ReturnType<typeof freshFolder>;
let file: string;
let said: string[];
const started: LastUsedTracker[] = [];
const logger = pino({ level: 'info' }, { write: (line) => void said.push(JSON.parse(line).msg) });

const start = (store: LastUsedStore, intervalMs: number) => {
  const lastUsedTracker = new LastUsedTracker(store, logger, intervalMs);
  started.push(lastUsedTracker);
  return lastUsedTracker;
};
const sqlite = () => openSqliteLastUsedStore(file, logger);
/** The SQLite store, and what it is given; `during` is called with each batch while it is being written. */
function watched(during: (batch: readonly LastUse[]) => void = () => undefined) {
  const store = sqlite();
  const batches: (readonly LastUse[])[] = [];
  const write = async (batch: readonly LastUse[]) => {
    batches.push(batch);
    during(batch);
    await store.write(batch);
  };
  return { batches, store: { write, read: store.read.bind(store), close: store.close.bind(store) } };
}
/** What the file holds, as another process sees it. */
async function written(ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const store = sqlite();
  try {
    return await store.read(ids);
  } finally {
    await store.close();
  }
}

beforeEach(() => {
  folder = freshFolder();
  file = join(folder.path, 'usage.db');
  said = [];
});
afterEach(async () => {
  for (const lastUsedTracker of started.splice(0)) await lastUsedTracker.stop();
  folder.remove();
});

describe('the last use of a key', () => {
  it('is known at once, and nothing is known of a key that was never used', async () => {
    const lastUsedTracker = start(sqlite(), HOUR);
    lastUsedTracker.record('a', at);
    lastUsedTracker.record('a', at + 1);
    expect(await lastUsedTracker.lastUsed(['a', 'never'])).toEqual(new Map([['a', at + 1]]));
    expect(await written(['a'])).toEqual(new Map());
  });

  it('is the later of what the store holds and what it does not hold yet', async () => {
    const store = sqlite();
    await store.write([
      ['earlier', at],
      ['later', at + 2],
      ['stored', at],
    ]);
    const lastUsedTracker = start(store, HOUR);
    lastUsedTracker.record('earlier', at + 1);
    lastUsedTracker.record('later', at + 1);
    expect(await lastUsedTracker.lastUsed(['earlier', 'later', 'stored'])).toEqual(
      new Map([
        ['earlier', at + 1],
        ['later', at + 2],
        ['stored', at],
      ]),
    );
  });

  it('is known at any moment while it is being written', async () => {
    const lastUsedTracker = start(sqlite(), 1);
    for (let use = 1; use <= 300; use++) {
      lastUsedTracker.record('a', at + use);
      expect(await lastUsedTracker.lastUsed(['a'])).toEqual(new Map([['a', at + use]]));
      await setImmediate();
    }
    await eventually(async () => (await written(['a'])).get('a') === at + 300);
  });

  it('is known of thousands of keys', async () => {
    const lastUsedTracker = start(sqlite(), HOUR);
    const ids = Array.from({ length: 3_000 }, (_, n) => `key-${n}`);
    for (const id of ids) lastUsedTracker.record(id, at);
    expect(await lastUsedTracker.lastUsed(ids)).toEqual(new Map(ids.map((id) => [id, at])));
  });
});

describe('writing', () => {
  it('writes a key once, however often it was used', async () => {
    const { store, batches } = watched();
    const lastUsedTracker = start(store, HOUR);
    for (let use = 1; use <= 1_000; use++) lastUsedTracker.record('a', at + use);
    await lastUsedTracker.stop();
    expect(batches).toEqual([[['a', at + 1_000]]]);
  });

  it('leaves a key that is used while it is written to the next time', async () => {
    const ids = Array.from({ length: 1_000 }, (_, n) => `key-${n}`);
    const again: string[] = [];
    const { store, batches } = watched((batch) => {
      if (batches.length > 3) return;
      const writtenAndBeingWritten = [batches[0]?.[0]?.[0], batch[0]?.[0]] as string[];
      for (const id of writtenAndBeingWritten) {
        lastUsedTracker.record(id, at + 1);
        again.push(id);
      }
    });
    const lastUsedTracker = start(store, 1);
    for (const id of ids) lastUsedTracker.record(id, at);
    await eventually(async () => (await written(again)).get(again.at(-1) as string) === at + 1);
    await lastUsedTracker.stop();
    const uses = batches.flat().map(([id]) => id);
    expect(new Set(uses.slice(0, 1_000))).toEqual(new Set(ids));
    expect(uses.slice(1_000).sort()).toEqual([...new Set(again)].sort());
    expect(await written([...new Set(again)])).toEqual(new Map(again.map((id) => [id, at + 1])));
  });

  it('gives way to other work between small batches, however many keys were used', async () => {
    let turns = 0;
    let counting = true;
    const count = (async () => {
      for (; counting; turns++) await setImmediate();
    })();
    const turnsSeen: number[] = [];
    let uses = 0;
    const { store, batches } = watched((batch) => {
      turnsSeen.push(turns);
      uses += batch.length;
    });
    const lastUsedTracker = start(store, 1);
    for (let n = 0; n < 200_000; n++) lastUsedTracker.record(randomUUID(), at);
    await eventually(() => uses === 200_000);
    counting = false;
    await count;
    expect(Math.max(...batches.map(({ length }) => length))).toBeLessThanOrEqual(500);
    expect(new Set(turnsSeen).size).toBe(batches.length);
  });

  it('is never done twice at a time', async () => {
    let release: () => void = () => undefined;
    let begun = 0;
    let writing = 0;
    let most = 0;
    const store = sqlite();
    const slow: LastUsedStore = {
      write: async (batch) => {
        begun++;
        most = Math.max(most, ++writing);
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        await store.write(batch);
        writing--;
      },
      read: (ids) => store.read(ids),
      close: () => store.close(),
    };
    const lastUsedTracker = start(slow, 1);
    lastUsedTracker.record('a', at);
    await eventually(() => begun === 1);
    lastUsedTracker.record('a', at + 1);
    const stopped = lastUsedTracker.stop();
    for (let turn = 0; turn < 100; turn++) await setImmediate();
    expect(begun).toBe(1);
    release();
    await eventually(() => begun === 2);
    release();
    await stopped;
    expect(most).toBe(1);
    expect(await written(['a'])).toEqual(new Map([['a', at + 1]]));
  });
});

describe('a store that is out of reach', () => {
  it('loses nothing, is tried again, and is warned of once', async () => {
    mkdirSync(file);
    const store = sqlite();
    let tries = 0;
    const counted: LastUsedStore = {
      write: (batch) => {
        tries++;
        return store.write(batch);
      },
      read: (ids) => store.read(ids),
      close: () => store.close(),
    };
    const lastUsedTracker = start(counted, 1);
    lastUsedTracker.record('a', at);
    lastUsedTracker.record('b', at);
    await eventually(() => tries >= 3);
    await expect(lastUsedTracker.lastUsed(['a'])).rejects.toThrow('EISDIR');
    lastUsedTracker.record('a', at + 1);
    const before = tries;
    await eventually(() => tries >= before + 3);
    expect(said).toEqual(['Last uses of keys cannot be written']);

    rmSync(file, { recursive: true });
    const now = new Map([
      ['a', at + 1],
      ['b', at],
    ]);
    await eventually(() => said.length === 2);
    expect(await written(['a', 'b'])).toEqual(now);
    expect(await lastUsedTracker.lastUsed(['a', 'b'])).toEqual(now);
    expect(said).toEqual(['Last uses of keys cannot be written', 'Last uses of keys are written again']);
  });
});

const whereRedisCanBeStopped = redisSource === 'redis-server' ? describe : describe.skip;
whereRedisCanBeStopped('Redis', () => {
  let port: number;
  let redis: RedisServer;
  beforeEach(async () => {
    port = await freePort();
    redis = await startRedis(port);
  });
  afterEach(() => redis.stop('SIGKILL'));

  it('that was killed and is back, empty, gets what was used meanwhile', async () => {
    const lastUsedTracker = start(await inReach(openRedisLastUsedStore(redis.url, 'test')), 5);
    lastUsedTracker.record('before', at);
    const admin = await inReach(openRedisLastUsedStore(redis.url, 'test'));
    await eventually(async () => (await admin.read(['before'])).has('before'));
    await redis.stop('SIGKILL');
    lastUsedTracker.record('a', at);
    await eventually(() => said.length > 0);
    await expect(lastUsedTracker.lastUsed(['a'])).rejects.toThrow();
    lastUsedTracker.record('a', at + 1);
    redis = await startRedis(port);
    await eventually(() => said.length > 1);
    await inReach(admin);
    expect(await admin.read(['a'])).toEqual(new Map([['a', at + 1]]));
    expect(await lastUsedTracker.lastUsed(['a', 'before'])).toEqual(new Map([['a', at + 1]]));
    expect(said).toEqual(['Last uses of keys cannot be written', 'Last uses of keys are written again']);
    await admin.close();
  });

  it('that does not answer does not hold the stop up', async () => {
    const lastUsedTracker = start(await inReach(openRedisLastUsedStore(redis.url, 'test')), HOUR);
    for (let n = 0; n < 5_000; n++) lastUsedTracker.record(`key-${n}`, at);
    const admin = new Redis(redis.url);
    await admin.client('PAUSE', HOUR);
    await lastUsedTracker.stop();
    admin.disconnect();
    await expect(lastUsedTracker.lastUsed(['key-1'])).rejects.toThrow();
  });
});

describe('stopping', () => {
  it('writes what is left', async () => {
    const lastUsedTracker = start(sqlite(), HOUR);
    const ids = Array.from({ length: 3_000 }, (_, n) => `key-${n}`);
    for (const id of ids) lastUsedTracker.record(id, at);
    await Promise.all([lastUsedTracker.stop(), lastUsedTracker.stop()]);
    expect(await written(ids)).toEqual(new Map(ids.map((id) => [id, at])));
    await expect(lastUsedTracker.lastUsed(['key-1'])).rejects.toThrow('closed');
  });

  it('ends although nothing can be written', async () => {
    mkdirSync(file);
    const lastUsedTracker = start(sqlite(), HOUR);
    lastUsedTracker.record('a', at);
    await lastUsedTracker.stop();
    expect(said).toEqual(['Last uses of keys cannot be written']);
  });
});
