import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { Redis } from 'ioredis';
import { openEventStore } from '../src/event-store/open.js';
import { differencesBetween } from './support/assertions/differences.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const CLI = 'dist/src/cli.js';
const keys = '/repo/shop/ai/apikey';

let settings: NodeJS.ProcessEnv;
let service: Running;
let admin: string;
const start = async (more: NodeJS.ProcessEnv = {}) => {
  service = await runService({ RATE_LIMIT: '0', ...more });
  settings = { DATA_DIR: service.folder, ...more };
  admin = await service.token('admin', '*');
};
afterEach(() => service.stop());

const create = async (name = 'search', repo = 'shop') => {
  const body = { name, aiType: 'AWS' };
  const made = await service.ask('POST', `/repo/${repo}/ai/apikey`, { token: admin, body });
  expect(made.status).toBe(201);
  return made.json['id'] as string;
};
const cli = (...args: string[]) =>
  new Promise<{ status: number; stdout: string }>((resolve) => {
    const env = { PATH: process.env['PATH'], ...settings };
    execFile(process.execPath, [CLI, ...args], { env }, (error, stdout) =>
      resolve({ status: error ? Number(error.code) : 0, stdout }),
    );
  });
const verify = async () => {
  const { status, stdout } = await cli('audit', 'verify', '--json');
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Json);
  const of = (kind: string) => lines.filter((line) => line['kind'] === kind);
  return { status, of, verdict: of('verdict')[0]?.['verdict'] };
};

it('keyledger audit verify counts one of each as one', async () => {
  await start();
  await create();
  expect((await cli('audit', 'verify')).stdout).toMatch(/^The log holds 1 event of 1 key up to \S+, with no fault\n/);
  const db = new DatabaseSync(`${service.folder}/keyledger.db`);
  db.exec(`UPDATE events SET type = 'ApiKeyLent' WHERE place = 2`);
  db.close();
  expect((await cli('audit', 'verify')).stdout).toMatch(/ with 1 fault\n/);
});

describe('keyledger audit verify on the log', () => {
  let ids: string[];
  beforeEach(async () => {
    await start();
    ids = [await create(), await create(), await create()];
    await service.ask('PUT', `${keys}/${ids[0]}`, { token: admin, body: { name: 'find' } });
    await service.ask('DELETE', `${keys}/${ids[1]}`, { token: admin });
  });
  const damage = (sql: string) => {
    const db = new DatabaseSync(`${service.folder}/keyledger.db`);
    db.exec(sql);
    db.close();
  };

  it('finds nothing wrong with a sound one, and exits with 0', async () => {
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 0, verdict: 'equal' });
    expect(of('log')).toEqual([expect.objectContaining({ events: 5, keys: 3, faults: 0 })]);
    expect(of('projections')).toEqual([expect.objectContaining({ events: 5, keys: 3, differences: 0 })]);
    const { stdout } = await cli('audit', 'verify');
    expect(stdout).toMatch(
      / 5 events of 3 keys .* no fault\n.*projections.db holds 5 events of 3 keys .* no difference from the log\nResult: equal\n$/s,
    );
  });

  it.each([
    [
      'an id that comes twice',
      `UPDATE events SET id = (SELECT id FROM events WHERE place = 2) WHERE place = 4`,
      /that of another event/,
    ],
    ['a gap of revisions', `UPDATE events SET revision = 2 WHERE place = 5`, /revision 2 instead of 1/],
    ['an event of a key that was never created', `DELETE FROM events WHERE place = 2`, /revision 1 instead of 0/],
    ['an unknown type', `UPDATE events SET type = 'ApiKeyLent' WHERE place = 5`, /unknown event type ApiKeyLent/],
    [
      'a later version',
      `UPDATE events SET metadata = json_set(metadata, '$.schemaVersion', 9) WHERE place = 3`,
      /schema version 9/,
    ],
    ['data that is no JSON', `UPDATE events SET data = '{' WHERE place = 5`, /data: /],
    [
      'an event that makes no sense',
      `UPDATE events SET data = json_set(data, '$.repoId', 'other') WHERE place = 5`,
      /impossible at this point/,
    ],
  ])('finds %s, and exits with 1', async (_, sql, fault) => {
    damage(sql);
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 1, verdict: 'drift' });
    expect(of('fault')).toEqual([
      expect.objectContaining({ fault: expect.stringMatching(fault), position: expect.any(String) }),
    ]);
  });

  it.each(['aiApiKey-hello', 'aiApiKeyWebhook-hello', 'auditAccess-hello', 'orders-1'])(
    'names an event of somebody else in stream %s, which is no drift',
    async (stream) => {
      const event = `(SELECT max(place) + 1 FROM events), '${stream}', 0, '${randomUUID()}', 'Greeted', '{}', '{}', 0`;
      damage(`INSERT INTO events (place, stream, revision, id, type, data, metadata, recorded_at) SELECT ${event}`);
      const { status, of, verdict } = await verify();
      expect({ status, verdict, faults: of('fault') }).toEqual({ status: 0, verdict: 'equal', faults: [] });
      expect(of('foreign')).toEqual([expect.objectContaining({ stream, revision: 0, type: 'Greeted' })]);
    },
  );

  it('cannot tell where there is no log, and exits with 2', async () => {
    settings = { DATA_DIR: `${service.folder}/elsewhere` };
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 2, verdict: 'could not tell' });
    expect(of('reason')[0]?.['reason']).toMatch(/There is no log/);
  });
});

const failed = (error: Error) => {
  throw error;
};

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('keyledger audit verify on Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  let prefix: string;
  let ids: string[];
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
    ids = [await create('one'), await create('two'), await create('three', 'other')];
    await service.ask('DELETE', `${keys}/${ids[1]}`, { token: admin });
  });
  const at = async (pattern: string) => {
    const [key, ...rest] = await redis.keys(`${prefix}:${pattern}`);
    if (!key || rest.length > 0) throw new Error(`${pattern}: ${key} ${rest}`);
    return key;
  };
  it('finds nothing wrong, and exits with 0', async () => {
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 0, verdict: 'equal' });
    expect(of('read model')).toEqual([expect.objectContaining({ keys: 3, differences: 0 })]);
  });

  it('says what is wrong, key by key, and exits with 1', async () => {
    await redis.hdel(await items(), ids[0] ?? '');
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 1, verdict: 'drift' });
    const difference = { kind: 'difference', repoId: 'shop', apiKeyId: ids[0], difference: 'it is missing' };
    expect(of('difference')).toEqual([difference]);
    expect((await cli('audit', 'verify')).stdout).toContain(`repository shop: key ${ids[0]}: it is missing\n`);
  });

  it('finds no fault during writes', async () => {
    let finished = false;
    const writing = (async () => {
      for (let n = 0; !finished; n++) {
        const id = await create(`name ${n}`, `repo-${n % 20}`);
        await service.ask('PUT', `/repo/repo-${n % 20}/ai/apikey/${id}`, {
          token: admin,
          body: { name: 'x' },
        });
        if (n % 2) await service.ask('DELETE', `/repo/repo-${n % 20}/ai/apikey/${id}`, { token: admin });
      }
    })();
    try {
      for (let round = 0; round < 5; round++) {
        const { of } = await verify();
        expect(of('difference')).toEqual([]);
        expect(of('verdict')).toEqual([{ kind: 'verdict', verdict: 'equal' }]);
      }
    } finally {
      finished = true;
      await writing;
    }
  });
  const alter = async (key: string, id: string, change: (document: string) => string) =>
    redis.hset(key, id, change((await redis.hget(key, id)) ?? ''));
  const items = () => at('*:items:shop');
  const all = () => at('*:all:shop');
  const listed = () => at('*:list:shop');
  const sortedSetMember = async (key: string, id: string | undefined) =>
    (await redis.zrange(key, '0', '-1')).find((member) => member.endsWith(`|${id}`)) as string;
  const stranger = '00000000-0000-4000-8000-000000000000';

  const damages: [string, () => Promise<unknown>, () => object[]][] = [
    [
      'a changed field',
      async () => alter(await items(), ids[0] ?? '', (text) => text.replace('"one"', '"uno"')),
      () => [{ repoId: 'shop', apiKeyId: ids[0], difference: 'name is "uno", in the log "one"' }],
    ],
    [
      'a deleted key that is active again',
      async () => {
        await alter(await items(), ids[1] ?? '', (text) => text.replace('"deleted"', '"active"'));
        await redis.zadd(await listed(), 0, await sortedSetMember(await all(), ids[1]));
      },
      () => [
        { apiKeyId: ids[1], difference: 'status is "active", in the log "deleted"' },
        { apiKeyId: ids[1], difference: 'it is deleted, but the list contains it' },
      ],
    ],
    [
      'a document that is none',
      async () => alter(await items(), ids[0] ?? '', () => '0 {"'),
      () => [{ apiKeyId: ids[0], difference: 'its document is not a JSON object' }],
    ],
    [
      'a revision that never was',
      async () => alter(await items(), ids[0] ?? '', (text) => text.replace(/^0/, '7')),
      () => [{ apiKeyId: ids[0], difference: 'the log holds no revision 7 of it' }],
    ],
    [
      'a key that stayed behind',
      async () => {
        const before = (await redis.hget(await items(), ids[0] ?? '')) ?? '';
        await service.ask('PUT', `${keys}/${ids[0]}`, { token: admin, body: { name: 'uno' } });
        await alter(await items(), ids[0] ?? '', () => before);
      },
      () => [{ apiKeyId: ids[0], difference: expect.stringMatching(/^it is at revision 0, but at .* at 1$/) }],
    ],
    [
      'a removed key',
      async () => redis.hdel(await items(), ids[0] ?? ''),
      () => [{ repoId: 'shop', apiKeyId: ids[0], difference: 'it is missing' }],
    ],
    [
      'an invented key',
      async () => redis.hset(await items(), stranger, `0 {"apiKeyId":"${stranger}"}`),
      () => [{ repoId: 'shop', apiKeyId: stranger, difference: 'the log holds no such key' }],
    ],
    [
      'a key of another repository',
      async () =>
        redis.hset(await items(), ids[2] ?? '', (await redis.hget(await at('*:items:other'), ids[2] ?? '')) ?? ''),
      () => [{ repoId: 'shop', apiKeyId: ids[2], difference: 'the log has it in the repository other' }],
    ],
    [
      'an invented repository',
      async () => redis.hset((await items()).replace(/shop$/, 'new'), stranger, '0 {}'),
      () => [
        {
          repoId: 'new',
          apiKeyId: null,
          difference: expect.stringContaining('does not name the repository'),
        },
        { repoId: 'new', apiKeyId: stranger, difference: 'the log holds no such key' },
      ],
    ],
    [
      'a key that is not listed',
      async () => redis.zrem(await listed(), await sortedSetMember(await listed(), ids[0])),
      () => [{ apiKeyId: ids[0], difference: 'the list lacks it' }],
    ],
    [
      'a key that is not in the list of all',
      async () => redis.zrem(await all(), await sortedSetMember(await all(), ids[1])),
      () => [{ apiKeyId: ids[1], difference: 'the list of all keys lacks it' }],
    ],
    [
      'a key at another place of the list',
      async () => redis.zadd(await listed(), 0, `zzz|${ids[0]}`),
      () => [{ apiKeyId: ids[0], difference: expect.stringContaining(`contain it at zzz|${ids[0]}`) }],
    ],
    [
      'a mark of quarantine',
      async () => redis.sadd((await items()).replace('items:shop', 'quarantined'), ids[0] ?? ''),
      () => [{ apiKeyId: ids[0], difference: 'it is marked as quarantined' }],
    ],
    [
      'a quarantined key that never was',
      async () => redis.sadd((await items()).replace('items:shop', 'quarantined'), stranger),
      () => [{ apiKeyId: stranger, difference: expect.stringContaining('the log holds no such key') }],
    ],
    [
      'a key that nobody knows',
      async () => redis.set((await items()).replace('items:shop', 'oops'), 1),
      () => [{ apiKeyId: null, difference: expect.stringContaining('unknown key') }],
    ],
    [
      'a position that is not in the log',
      async () => {
        const [live] = await redis.keys(`${prefix}:*:live`);
        await redis.hset(live ?? '', 'eventId', stranger);
      },
      () => [{ apiKeyId: null, difference: expect.stringContaining('an event that the log does not hold') }],
    ],
  ];
  it.each(damages)('finds %s', async (_, damage, found) => {
    await damage();
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: failed,
      warn: () => undefined,
    });
    try {
      const differences = await differencesBetween(log, redis, prefix);
      expect(differences).toEqual(found().map((one) => expect.objectContaining(one)));
    } finally {
      await log.close();
    }
  });

  it('does not report a read model that lags', async () => {
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: failed,
      warn: () => undefined,
    });
    const [live] = await redis.keys(`${prefix}:*:live`);
    const before = await redis.hgetall(live ?? '');
    await redis.config('SET', 'min-replicas-to-write', 1);
    try {
      const made = service.ask('POST', keys, { token: admin, body: { name: 'four', aiType: 'AWS' } });
      expect((await made).status).toBe(201);
      expect(await redis.hgetall(live ?? '')).toEqual(before);
      expect(await differencesBetween(log, redis, prefix)).toEqual([]);
    } finally {
      await redis.config('SET', 'min-replicas-to-write', 0);
      await log.close();
    }
  });

  it.each([
    ['Redis is unavailable', () => ({ READ_MODEL_URL: 'redis://127.0.0.1:1' }), /READ_MODEL_URL: .*ECONNREFUSED/],
    ['Redis holds nothing', () => ({ REDIS_PREFIX: `test-${randomUUID()}` }), /holds none of \d keys?/],
  ])('cannot tell where %s, and exits with 2', async (_, change, reason) => {
    settings = { ...settings, ...change() };
    const { status, of, verdict } = await verify();
    expect({ status, verdict }).toEqual({ status: 2, verdict: 'could not tell' });
    expect(of('reason')[0]?.['reason']).toMatch(reason);
    expect(of('log')).toEqual([expect.objectContaining({ faults: 0 })]);
  });
});
