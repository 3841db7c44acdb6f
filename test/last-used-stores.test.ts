import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { pino } from 'pino';
import type { LastUsedStore } from '../src/last-used/last-used-store.js';
import { openLastUsedStore } from '../src/last-used/open.js';
import { openRedisLastUsedStore } from '../src/last-used/redis-last-used.js';
import { openSqliteLastUsedStore } from '../src/last-used/sqlite-last-used.js';
import { describeUsageStore, inReach } from './support/contracts/last-used-store.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';

const at = Date.UTC(2026, 0, 1);
let warnings: string[] = [];
const logger = pino({ level: 'warn' }, { write: (line) => void warnings.push(JSON.parse(line).msg) });

describe('the contract', () => {
  const home = freshFolder();
  afterAll(() => home.remove());
  describeUsageStore('SQLite', async () => openSqliteLastUsedStore(join(home.path, 'usage.db'), logger));
});

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('with a Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  }, 120_000);
  afterAll(() => server.stop());
  describeUsageStore('Redis', () => inReach(openRedisLastUsedStore(server.url, 'test')));

  it('last uses lie where the read model lies', async () => {
    const folder = freshFolder();
    const file = join(folder.path, 'usage.db');
    const inRedis = await inReach(openLastUsedStore(server.url, file, 'test', logger));
    expect(existsSync(file)).toBe(false);
    const inFile = await inReach(openLastUsedStore('memory:', file, 'test', logger));
    expect(existsSync(file)).toBe(true);
    await inRedis.close();
    await inFile.close();
    folder.remove();
  });
});

describe('the file', () => {
  let folder: ReturnType<typeof freshFolder>;
  let file: string;
  const opened: LastUsedStore[] = [];
  const children: ChildProcess[] = [];
  const open = () => {
    const store = openSqliteLastUsedStore(file, logger);
    opened.push(store);
    return store;
  };
  beforeEach(() => {
    folder = freshFolder();
    file = join(folder.path, 'data', 'usage.db');
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
    await store.write([['a', at]]);
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(file + suffix).mode & 0o777).toBe(0o600);
  });

  it('keeps what was written', async () => {
    const store = open();
    await store.write([['a', at]]);
    await store.close();
    expect(await open().read(['a'])).toEqual(new Map([['a', at]]));
    expect(warnings).toEqual([]);
  });

  it('that cannot be opened is tried again later', async () => {
    mkdirSync(file, { recursive: true });
    const store = open();
    await expect(store.write([['a', at]])).rejects.toThrow('EISDIR');
    await expect(store.read(['a'])).rejects.toThrow('EISDIR');
    rmSync(file, { recursive: true });
    await inReach(store);
    await store.write([['a', at]]);
    expect(await store.read(['a'])).toEqual(new Map([['a', at]]));
  });

  it('that another process is writing to is waited for for a while, and can be read', async () => {
    const store = open();
    await store.write([['a', at]]);
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    await expect(store.write([['a', at + 1]])).rejects.toThrow('locked');
    expect(await store.read(['a'])).toEqual(new Map([['a', at]]));
    other.exec('ROLLBACK');
    await store.write([['a', at + 1]]);
    expect(await store.read(['a'])).toEqual(new Map([['a', at + 1]]));

    other.exec('BEGIN IMMEDIATE');
    const waiting = store.write([['a', at + 2]]);
    for (let turn = 0; turn < 100; turn++) await setImmediate();
    other.exec('ROLLBACK');
    other.close();
    await waiting;
    expect(await store.read(['a'])).toEqual(new Map([['a', at + 2]]));
  });

  it('that is no database is moved aside and begun anew', async () => {
    mkdirSync(join(folder.path, 'data'));
    writeFileSync(file, 'Dear diary, '.repeat(1000));
    const store = open();
    await store.write([['a', at]]);
    expect(await store.read(['a'])).toEqual(new Map([['a', at]]));
    expect(readFileSync(`${file}.broken`, 'utf8')).toBe('Dear diary, '.repeat(1000));
    expect(warnings).toEqual([expect.stringContaining('usage.db is broken')]);
  });

  it.each(['CREATE TABLE last_used (name TEXT)', 'PRAGMA user_version = 99'])(
    'of something else or another release (%s) is moved aside and begun anew',
    async (sql) => {
      if (sql.startsWith('PRAGMA')) {
        const store = open();
        await store.write([['a', at]]);
        await store.close();
      }
      mkdirSync(join(folder.path, 'data'), { recursive: true });
      const db = new DatabaseSync(file);
      db.exec(sql);
      db.close();
      expect(await open().read(['a'])).toEqual(new Map());
      expect(existsSync(`${file}.broken`)).toBe(true);
    },
  );

  it('that is corrupt inside is moved aside and begun anew, by one of those that have it open', async () => {
    const many = Array.from({ length: 2_000 }, (_, n): [string, number] => [`key-${n}`, at]);
    const first = open();
    await first.write(many);
    await first.close();
    const [one, two] = [open(), open()];
    const db = new DatabaseSync(file);
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    db.close();
    await two.read(['any']);
    writeFileSync(file, readFileSync(file).fill(0x5a, 4096));
    await one.write(many.slice(0, 10));
    await two.write(many.slice(10, 20));
    for (const store of [one, two]) {
      expect(await store.read(many.slice(0, 20).map(([id]) => id))).toEqual(new Map(many.slice(0, 20)));
    }
    expect(warnings).toHaveLength(1);
  });

  it('that is removed while it is open is begun anew', async () => {
    const store = open();
    await store.write([['a', at]]);
    rmSync(file);
    await store.write([['b', at]]);
    expect(await store.read(['a', 'b'])).toEqual(new Map([['b', at]]));
    expect(await open().read(['b'])).toEqual(new Map([['b', at]]));
  });

  it('is written by several processes at once, and holds the latest use of each key', async () => {
    const writers = Array.from({ length: 3 }, (_, n) =>
      spawn(process.execPath, ['dist/test/support/processes/last-used-writer.js', file, String(at + n)], {
        stdio: ['ignore', 'inherit', 'inherit'],
      }),
    );
    children.push(...writers);
    const exits = await Promise.all(writers.map((writer) => once(writer, 'exit')));
    expect(exits.map(([code]) => code)).toEqual([0, 0, 0]);
    const ids = Array.from({ length: 2_000 }, (_, n) => `key-${n}`);
    expect(await open().read(ids)).toEqual(new Map(ids.map((id) => [id, at + 2])));
  });
});
