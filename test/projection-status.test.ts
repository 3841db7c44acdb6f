import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import type { EventStore } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import { differencesBetween } from './support/assertions/differences.js';
import { eventually } from './support/assertions/eventually.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const CLI = 'dist/src/cli.js';
const keys = '/repo/shop/ai/apikey';
const failed = (error: Error) => {
  throw error;
};

let settings: NodeJS.ProcessEnv;
let service: Running;
let log: EventStore;
let admin: string;
const start = async (more: NodeJS.ProcessEnv = {}) => {
  service = await runService({ RATE_LIMIT: '0', ...more });
  settings = { DATA_DIR: service.folder, ...more };
  admin = await service.token('admin', '*');
  log = await openEventStore(service.config.EVENT_STORE_URL, { onFatal: failed, warn: () => undefined });
};
afterEach(async () => {
  await log.close();
  await service.stop();
});
const cli = (...args: string[]) =>
  new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    const env = { PATH: process.env['PATH'], ...settings };
    execFile(process.execPath, [CLI, 'projection', ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
const create = async () => {
  const made = await service.ask('POST', keys, { token: admin, body: { name: 'search', aiType: 'AWS' } });
  return made.json['id'] as string;
};
const fetchKey = async (id: string) =>
  (await service.ask('GET', `${keys}/${id}`, { token: admin })).json['apiKey'] as Json;
/** Appends an event that no release can read. */
const quarantine = async (apiKeyId: string) => {
  const event = { id: randomUUID(), type: 'ApiKeyLent', data: { apiKeyId, repoId: 'shop' }, metadata: {} };
  expect(await log.append(apiKeyStream(apiKeyId), [event], 0)).toMatchObject({ appended: true });
  await eventually(async () => (await fetchKey(apiKeyId))['status'] === 'unavailable');
};

describe('keyledger projection, with lists from the projections of the process', () => {
  beforeEach(() => start());
  const file = () => join(service.folder, 'projections.db');

  it('status shows what each file holds, in use and afterwards', async () => {
    await quarantine(await create());
    const held = { events: 2, keys: 1, quarantined: 1, position: expect.any(String) };
    const status = async () => JSON.parse((await cli('status', '--json')).stdout) as unknown;
    expect(await status()).toEqual({ files: [{ path: file(), isInUse: true, held }] });
    const { stdout } = await cli('status');
    expect(stdout).toMatch(/projections\.db {2}in use, 2 events of 1 key up to \S+, 1 key in quarantine\n/);
  });

  it('rebuild replaces the file of a service, which goes on serving meanwhile and afterwards', async () => {
    const id = await create();
    const before = statSync(file()).ino;
    let isDone = false;
    const rebuilding = cli('rebuild').finally(() => {
      isDone = true;
    });
    while (!isDone) expect(await fetchKey(id)).toMatchObject({ id, status: 'active' });
    expect(await rebuilding).toMatchObject({
      status: 0,
      stdout: `${file()} is built anew, and its process has taken it over\n`,
    });
    expect(statSync(file()).ino).not.toBe(before);
    const other = await create();
    expect(await fetchKey(other)).toMatchObject({ id: other });
    expect(await fetchKey(id)).toMatchObject({ id });
    expect(existsSync(`${file()}.next`)).toBe(false);
  });

  it('rebuild of a service that writes at the same time loses nothing', async () => {
    const ids: string[] = [];
    let isDone = false;
    const rebuilding = cli('rebuild', '--json').finally(() => {
      isDone = true;
    });
    while (!isDone) ids.push(await create());
    const { stdout } = await rebuilding;
    expect(JSON.parse(stdout)).toEqual({ files: [{ path: file(), isInUse: true }] });
    for (const id of ids) expect(await fetchKey(id)).toMatchObject({ id });
  });

  it('release says whether this release can read the stream', async () => {
    const id = await create();
    expect(await cli('release', id)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('can read'),
    });
    await quarantine(id);
    expect(await cli('release', apiKeyStream(id))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/stays in quarantine: ApiKeyLent at revision 1: unknown event type/),
    });
    expect(await cli('release', randomUUID())).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('holds no stream'),
    });
    expect(await cli('release', 'x')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('not the stream of a key'),
    });
  });
});

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('keyledger projection, with the read model in Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  let prefix: string;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  }, 120_000);
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });
  beforeEach(async () => {
    prefix = `test-${randomUUID()}`;
    await start({ READ_MODEL_URL: server.url, REDIS_PREFIX: prefix });
  });
  const status = async () => JSON.parse((await cli('status', '--json')).stdout) as Json;

  it('status says where it is, what serves, and what is in quarantine', async () => {
    const [sound, broken] = [await create(), await create()];
    await quarantine(broken);
    const found = await status();
    const held = { events: 3, keys: 2, quarantined: 1, position: await log.end() };
    expect(found).toEqual({
      files: [{ path: join(service.folder, 'projections.db'), isInUse: true, held }],
      version: 3,
      generations: expect.any(Object),
      others: [],
      position: await log.end(),
      isOfThisLog: true,
      lag: { events: 0, seconds: 0 },
      quarantined: [
        {
          stream: apiKeyStream(broken),
          repoId: 'shop',
          cause: { position: await log.end(), revision: 1, type: 'ApiKeyLent', fault: expect.any(String) },
        },
      ],
    });
    const { stdout } = await cli('status');
    expect(stdout).toMatch(/^Version +3\nServes .*\nPosition .*\nLag +none\nQuarantine +1 stream\n +aiApiKey-/);
    expect(stdout).not.toContain(sound);
  });

  it('status reports the lag, and generations that are being built', async () => {
    await create();
    await redis.config('SET', 'min-replicas-to-write', 1);
    try {
      await create();
      await create();
      expect(await status()).toMatchObject({ lag: { events: 2, seconds: expect.any(Number) } });
    } finally {
      await redis.config('SET', 'min-replicas-to-write', 0);
    }
    // Otherwise writes that wait for Redis would overwrite the next lines.
    await eventually(async () => ((await status())['lag'] as Json)['events'] === 0);
    const [live] = await redis.keys(`${prefix}:*:live`);
    await redis.hset((live ?? '').replace(/live$/, 'generations'), 'half', Date.now());
    expect(await status()).toMatchObject({ others: ['half'] });
    await redis.hset(live ?? '', 'eventId', randomUUID());
    expect(await status()).toMatchObject({ isOfThisLog: false });
    expect((await cli('status')).stdout).toMatch(/does not hold: run keyledger projection rebuild/);
  });

  it('rebuild builds and says what', async () => {
    await create();
    const { status: code, stdout } = await cli('rebuild');
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        /^Generation \S+ is live: 1 key of 1 event, in 1s.*\n\S+projections\.db is built anew/,
      ),
    });
    const [generation] = /\d{8}T\d{6}Z-\w{8}/.exec(stdout) ?? [];
    expect(Object.keys((await status())['generations'] as Json)).toEqual([generation]);
    expect(JSON.parse((await cli('rebuild', '--json')).stdout)).toMatchObject({ keys: 1, events: 1 });
  });

  it('rebuild says if Redis is unavailable, and does not wait for ever', async () => {
    settings = { ...settings, READ_MODEL_URL: 'redis://:hidden@127.0.0.1:1' };
    const { status: code, stderr } = await cli('rebuild');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/READ_MODEL_URL: Redis at .* cannot be used: .*ECONNREFUSED/),
    });
    expect(stderr).not.toContain('hidden');
  });

  /** A key that an older release left in quarantine, though this release reads all of its stream. */
  const leftInQuarantine = async () => {
    const id = await create();
    const [items = ''] = await redis.keys(`${prefix}:*:items:shop`);
    const document = (await redis.hget(items, id)) ?? '';
    await redis.hset(items, id, document.replace('"active"', '"unavailable"'));
    await redis.sadd(items.replace('items:shop', 'quarantined'), id);
    expect(await fetchKey(id)).toMatchObject({ status: 'unavailable' });
    return id;
  };

  it('release lets the read model take over a stream that this release can read', async () => {
    const id = await leftInQuarantine();
    expect((await cli('status')).stdout).toContain(`keyledger projection release ${apiKeyStream(id)}`);
    const { status: code, stdout } = await cli('release', apiKeyStream(id));
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/is active/) });
    expect(await fetchKey(id)).toMatchObject({ status: 'active' });
    expect(await status()).toMatchObject({ quarantined: [] });
    expect(await differencesBetween(log, redis, prefix)).toEqual([]);
  });

  it('release leaves what this release cannot read, and says why', async () => {
    const id = await create();
    await quarantine(id);
    expect(await cli('release', id)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/stays in quarantine: ApiKeyLent/),
    });
    expect(await fetchKey(id)).toMatchObject({ status: 'unavailable' });
  });

  it('is released by an instance that can read it when it starts', async () => {
    const id = await leftInQuarantine();
    const { EVENT_STORE_URL } = service.config;
    const next = await runService({ READ_MODEL_URL: server.url, REDIS_PREFIX: prefix, EVENT_STORE_URL });
    await next.stop();
    expect(await fetchKey(id)).toMatchObject({ status: 'active' });
    expect(await differencesBetween(log, redis, prefix)).toEqual([]);
  });
});
