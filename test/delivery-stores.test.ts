import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import type { DeliveryStore } from '../src/subscribers/webhooks/delivery-store.js';
import { openDeliveryStore } from '../src/subscribers/webhooks/open.js';
import { openRedisDeliveryStore } from '../src/subscribers/webhooks/redis-delivery-store.js';
import { openSqliteDeliveryStore } from '../src/subscribers/webhooks/sqlite-delivery-store.js';
import { eventually } from './support/assertions/eventually.js';
import { attemptAt, cursorAt, describeDeliveryStore, untilAvailable } from './support/contracts/delivery-store.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { freePort, type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';

const LONG = 600_000;
const logId = randomUUID();
let warnings: string[] = [];
const logger = pino({ level: 'warn' }, { write: (line) => void warnings.push(JSON.parse(line).msg) });

/** Acquires a lease and saves. */
async function put(store: DeliveryStore, id: string, place = 1): Promise<void> {
  expect(await store.acquireLeases('a', [id], LONG)).toEqual(new Set([id]));
  expect(await store.save('a', id, cursorAt(place), attemptAt(place))).toBe(true);
}

it('a lease that a clock made which was ahead holds nobody up', async () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'deliveries.db');
  const [one, two] = ['a', 'b'].map(() => openSqliteDeliveryStore(file, logId, logger));
  const now = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 2 * 24 * 3600 * 1000);
  await one?.acquireLeases('a', ['w'], 6000);
  await one?.heartbeat('a', 6000);
  now.mockRestore();
  expect(await two?.acquireLeases('b', ['w'], 6000)).toEqual(new Set(['w']));
  expect(await two?.heartbeat('b', 6000)).toEqual(['b']);
  await one?.close();
  await two?.close();
  folder.remove();
});

describe('the contract', () => {
  const home = temporaryFolder();
  afterAll(() => home.remove());
  describeDeliveryStore('SQLite', async (log) =>
    openSqliteDeliveryStore(join(home.path, 'deliveries.db'), log, logger),
  );
});

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('with a Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  }, 120_000);
  afterAll(() => server.stop());
  describeDeliveryStore('Redis', (log) => untilAvailable(openRedisDeliveryStore(server.url, 'test', log)));

  it('cursors lie where the read model lies', async () => {
    const folder = temporaryFolder();
    const file = join(folder.path, 'deliveries.db');
    const inRedis = await untilAvailable(openDeliveryStore(server.url, file, 'test', logId, logger));
    expect(existsSync(file)).toBe(false);
    const inFile = await untilAvailable(openDeliveryStore('memory:', file, 'test', logId, logger));
    expect(existsSync(file)).toBe(true);
    await inRedis.close();
    await inFile.close();
    folder.remove();
  });

  it('services with prefixes of their own do not see each other', async () => {
    const id = randomUUID();
    const [one, two] = await Promise.all(
      ['this', 'that'].map((prefix) => untilAvailable(openRedisDeliveryStore(server.url, prefix, logId))),
    );
    await put(one as DeliveryStore, id);
    expect(await two?.cursor(id)).toBeUndefined();
    expect(await two?.acquireLeases('b', [id], LONG)).toEqual(new Set([id]));
    await one?.close();
    await two?.close();
  });

  it('nothing is left of an endpoint that was forgotten', async () => {
    const [store, admin] = [
      await untilAvailable(openRedisDeliveryStore(server.url, 'left', logId)),
      new Redis(server.url),
    ];
    await put(store, 'w');
    expect(await admin.keys('left:*')).toHaveLength(3);
    await store.deleteWebhook('w');
    expect(await admin.keys('left:*')).toEqual([]);
    admin.disconnect();
    await store.close();
  });
});

const whereRedisCanBeStopped = redisSource === 'redis-server' ? describe : describe.skip;
whereRedisCanBeStopped('a Redis', () => {
  let port: number;
  let server: RedisServer;
  let store: DeliveryStore;
  beforeEach(async () => {
    port = await freePort();
    server = await startRedis(port);
    store = await untilAvailable(openRedisDeliveryStore(server.url, 'test', logId));
  });
  afterEach(async () => {
    await store.close();
    await server.stop('SIGKILL');
  });

  it('that goes away makes every call fail, and is used again when it is back', async () => {
    await put(store, 'w');
    await server.stop('SIGKILL');
    await eventually(() =>
      store.cursor('w').then(
        () => false,
        () => true,
      ),
    );
    await expect(store.heartbeat('a', LONG)).rejects.toThrow();
    await expect(store.acquireLeases('a', ['w'], LONG)).rejects.toThrow();
    await expect(store.releaseLeases('a', ['w'])).rejects.toThrow();
    await expect(store.save('a', 'w', cursorAt(2))).rejects.toThrow();
    await expect(store.attempts('w')).rejects.toThrow();
    await expect(store.deleteWebhook('w')).rejects.toThrow();
    server = await startRedis(port);
    await untilAvailable(store);
    expect(await store.save('a', 'w', cursorAt(2))).toBe(false);
    await put(store, 'w', 3);
    expect(await store.cursor('w')).toEqual(cursorAt(3));
  });

  it('that is not there yet is used as soon as it is', async () => {
    await server.stop('SIGKILL');
    const early = openRedisDeliveryStore(server.url, 'test', logId);
    await expect(early.cursor('w')).rejects.toThrow();
    server = await startRedis(port);
    await put(await untilAvailable(early), 'w');
    expect(await early.attempts('w')).toEqual([attemptAt(1)]);
    await early.close();
  });

  it('that was emptied knows no lease any more: saves are refused until it is taken again', async () => {
    await put(store, 'w');
    await store.heartbeat('a', LONG);
    const admin = new Redis(server.url);
    await admin.flushall();
    await admin.script('FLUSH');
    admin.disconnect();
    expect(await store.save('a', 'w', cursorAt(2), attemptAt(2))).toBe(false);
    expect(await store.cursor('w')).toBeUndefined();
    expect(await store.attempts('w')).toEqual([]);
    expect(await store.heartbeat('b', LONG)).toEqual(['b']);
    await put(store, 'w', 3);
    expect(await store.attempts('w')).toEqual([attemptAt(3)]);
  });
});

describe('the file', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let file: string;
  const opened: DeliveryStore[] = [];
  const children: ChildProcess[] = [];
  const open = () => {
    const store = openSqliteDeliveryStore(file, logId, logger);
    opened.push(store);
    return store;
  };
  beforeEach(() => {
    folder = temporaryFolder();
    file = join(folder.path, 'data', 'deliveries.db');
    warnings = [];
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    for (const store of opened.splice(0)) await store.close();
    folder.remove();
  });

  it('is made at the first call, for its owner only', async () => {
    const store = open();
    expect(existsSync(file)).toBe(false);
    await put(store, 'w');
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(file + suffix).mode & 0o777).toBe(0o600);
  });

  it('that cannot be opened is tried again later', async () => {
    mkdirSync(file, { recursive: true });
    const store = open();
    await expect(store.acquireLeases('a', ['w'], LONG)).rejects.toThrow('EISDIR');
    await expect(store.cursor('w')).rejects.toThrow('EISDIR');
    rmSync(file, { recursive: true });
    await put(await untilAvailable(store), 'w');
    expect(await store.cursor('w')).toEqual(cursorAt(1));
  });

  it('that another process is writing to is waited for for a while, and can be read', async () => {
    const store = open();
    await put(store, 'w');
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    await expect(store.save('a', 'w', cursorAt(2))).rejects.toThrow('locked');
    expect(await store.cursor('w')).toEqual(cursorAt(1));
    const waiting = store.save('a', 'w', cursorAt(3), attemptAt(3));
    for (let turn = 0; turn < 100; turn++) await setImmediate();
    other.exec('ROLLBACK');
    other.close();
    expect(await waiting).toBe(true);
    expect(await store.attempts('w')).toEqual([attemptAt(3), attemptAt(1)]);
  });

  it('that is no database is moved aside and begun anew', async () => {
    mkdirSync(join(folder.path, 'data'));
    writeFileSync(file, 'Dear diary, '.repeat(1000));
    const store = open();
    await put(store, 'w');
    expect(await store.cursor('w')).toEqual(cursorAt(1));
    expect(readFileSync(`${file}.broken`, 'utf8')).toBe('Dear diary, '.repeat(1000));
    expect(warnings).toEqual([expect.stringMatching(/deliveries\.db is broken.* cursors of webhooks/)]);
  });

  it('that holds something else of ours is moved aside as it is, and not written into', async () => {
    mkdirSync(join(folder.path, 'data'));
    const foreignDb = new DatabaseSync(file);
    foreignDb.exec(`
      CREATE TABLE last_used (api_key_id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      INSERT INTO last_used VALUES ('key', 1);
      PRAGMA application_id = ${0x4b557365};
      PRAGMA user_version = 1;`);
    foreignDb.close();
    const before = readFileSync(file);
    await put(open(), 'w');
    expect(readFileSync(`${file}.broken`).equals(before)).toBe(true);
    expect(warnings).toHaveLength(1);
  });

  it.each(['CREATE TABLE cursors (name TEXT)', 'PRAGMA user_version = 99'])(
    'of something else or another release (%s) is moved aside and begun anew',
    async (sql) => {
      if (sql.startsWith('PRAGMA')) {
        const store = open();
        await put(store, 'w');
        await store.close();
      }
      mkdirSync(join(folder.path, 'data'), { recursive: true });
      const db = new DatabaseSync(file);
      db.exec(sql);
      db.close();
      const store = open();
      expect(await store.cursor('w')).toBeUndefined();
      await put(store, 'w', 2);
      expect(existsSync(`${file}.broken`)).toBe(true);
    },
  );

  it('that is corrupt inside is moved aside and begun anew, by one of those that have it open', async () => {
    const ids = Array.from({ length: 500 }, (_, n) => `webhook-${n}`);
    const first = open();
    for (const id of ids) await put(first, id);
    await first.close();
    const [one, two] = [open(), open()];
    const db = new DatabaseSync(file);
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    db.close();
    await two.cursor('any');
    writeFileSync(file, readFileSync(file).fill(0x5a, 4096));
    await put(one, 'x');
    await put(two, 'y');
    for (const store of [one, two]) {
      expect(await store.cursor('x')).toEqual(cursorAt(1));
      expect(await store.cursor('y')).toEqual(cursorAt(1));
      expect(await store.cursor('webhook-0')).toBeUndefined();
    }
    expect(warnings).toHaveLength(1);
  });

  it('that is removed while it is open is begun anew: saves are refused until the lease is taken again', async () => {
    const [store, other] = [open(), open()];
    await put(store, 'w');
    expect(await other.cursor('w')).toEqual(cursorAt(1));
    rmSync(file);
    expect(await store.save('a', 'w', cursorAt(2))).toBe(false);
    expect(await store.cursor('w')).toBeUndefined();
    await put(store, 'w', 3);
    expect(await other.cursor('w')).toEqual(cursorAt(3));
  });

  it('is shared by processes that race for leases: each has one holder, whose save is there', async () => {
    const log = randomUUID();
    const names = ['a', 'b', 'c'];
    const racers = names.map((name) =>
      spawn(process.execPath, ['dist/test/support/processes/delivery-racer.js', file, log, name], {
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    );
    children.push(...racers);
    const held = await Promise.all(
      racers.map(async ({ stdout }) => {
        let text = '';
        for await (const part of stdout.setEncoding('utf8')) text += part;
        return JSON.parse(text) as string[];
      }),
    );
    await Promise.all(racers.map((racer) => racer.exitCode === null && once(racer, 'exit')));
    expect(racers.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    const all = held.flat();
    expect([all.length, new Set(all).size]).toEqual([200, 200]);
    const store = openSqliteDeliveryStore(file, log, logger);
    for (const [n, name] of names.entries()) {
      for (const id of held[n] ?? []) expect((await store.cursor(id))?.eventId).toBe(name);
    }
    await store.close();
    expect(warnings).toEqual([]);
  });
});
