import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import type { EventStore } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import { GenerationLost, rebuild } from '../src/maintenance/rebuild.js';
import { readLiveGeneration } from '../src/projections/redis/generations.js';
import { PARTITIONS, partitionKeys, versionRoot } from '../src/projections/redis/keys.js';
import { openRedisReadModel } from '../src/projections/redis/read-model.js';
import { READ_MODEL_SCRIPTS } from '../src/projections/redis/scripts.js';
import { connectRedis } from '../src/redis/connection.js';
import { differencesBetween } from './support/assertions/differences.js';
import { eventually } from './support/assertions/eventually.js';
import { keySourceOf } from './support/fixtures/key-source.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const silent = { onFold: () => undefined, onWrite: () => undefined };
const failed = (error: Error) => {
  throw error;
};

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('a rebuild of the read model in Redis', () => {
  let server: RedisServer;
  let redis: Redis;
  let prefix: string;
  let service: Running;
  let log: EventStore;
  let admin: string;
  beforeAll(async () => {
    server = await startRedis();
    redis = connectRedis(server.url, READ_MODEL_SCRIPTS) as Redis;
    await eventually(() => redis.status === 'ready');
  }, 120_000);
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });
  beforeEach(async () => {
    prefix = `test-${randomUUID()}`;
    service = await runService({ RATE_LIMIT: '0', READ_MODEL_URL: server.url, REDIS_PREFIX: prefix });
    log = await openEventStore(service.config.EVENT_STORE_URL, { onFatal: failed, warn: () => undefined });
    admin = await service.token('admin', '*');
  });
  afterEach(async () => {
    await log.close();
    await service.stop();
  });

  const keysOf = (repoId: string) => `/repo/${repoId}/ai/apikey`;
  const create = async (repoId: string, name = 'search') => {
    const made = await service.ask('POST', keysOf(repoId), { token: admin, body: { name, aiType: 'AWS' } });
    expect(made.status).toBe(201);
    return made.json['id'] as string;
  };
  const list = async (repoId: string) => {
    const { status, json } = await service.ask('GET', `${keysOf(repoId)}?include=deleted`, { token: admin });
    expect(status).toBe(200);
    return json['apiKeys'] as Json[];
  };
  const repos = ['a', 'b', 'c', 'd', 'e', 'f'];
  const fill = async () => {
    for (const repoId of repos) {
      const id = await create(repoId);
      await create(repoId, 'other');
      await service.ask('DELETE', `${keysOf(repoId)}/${id}`, { token: admin });
    }
  };
  const everything = () => Promise.all(repos.map(list));
  const partitions = () =>
    Array.from({ length: PARTITIONS }, (_, number) => partitionKeys(versionRoot(prefix), number));
  const generations = async () =>
    (await Promise.all(partitions().map((one) => readLiveGeneration(redis, one)))).map(({ generation }) => generation);
  const beside = async () => (await Promise.all(partitions().map((one) => redis.hkeys(one.generations)))).flat();
  const differences = () => differencesBetween(log, redis, prefix);

  it('serves the same, as one new generation, and leaves nothing of the old one', async () => {
    await fill();
    const before = await everything();
    const { generation, events, keys } = await rebuild(log, redis, prefix, silent);
    expect({ events, keys }).toEqual({ events: 18, keys: 12 });
    expect(new Set(await generations())).toEqual(new Set([generation]));
    expect(await everything()).toEqual(before);
    expect(await beside()).toEqual([]);
    const stored = await redis.keys(`${versionRoot(prefix)}:{*:*:*`);
    expect(stored.filter((key) => !key.includes(generation) && !key.includes('{writer}'))).toEqual([]);
    expect(await differences()).toEqual([]);
  });

  it('heals what was damaged', async () => {
    await fill();
    const before = await everything();
    for (const key of await redis.keys(`${versionRoot(prefix)}:*:items:*`)) await redis.hset(key, 'x', '0 {}');
    const [items] = await redis.keys(`${versionRoot(prefix)}:*:list:*`);
    await redis.del(items as string);
    expect((await differences()).length).toBeGreaterThan(6);
    await rebuild(log, redis, prefix, silent);
    expect(await differences()).toEqual([]);
    expect(await everything()).toEqual(before);
  });

  it('never looks empty or partial to readers, nor older than their own writes, during writes', async () => {
    await fill();
    let finished = false;
    const write = async (repoId: string) => {
      for (let made = 2; !finished; made++) {
        expect(await list(repoId)).toHaveLength(made);
        await create(repoId);
      }
    };
    const writing = repos.map(write);
    for (let round = 0; round < 5; round++) await rebuild(log, redis, prefix, silent);
    finished = true;
    await Promise.all(writing);
    expect(await differences()).toEqual([]);
    expect(await beside()).toEqual([]);
  });

  it('done by two at once is done twice', async () => {
    await fill();
    const before = await everything();
    await Promise.all([rebuild(log, redis, prefix, silent), rebuild(log, redis, prefix, silent)]);
    expect(await everything()).toEqual(before);
    expect(await differences()).toEqual([]);
  });

  /** Points at which a rebuild may die, as a progress call-back that fails or a log that does. */
  const deaths: [string, (die: () => never) => { progress?: object; log?: Partial<EventStore> }][] = [
    ['while it folds', (die) => ({ progress: { onFold: die } })],
    ['when it has written one partition', (die) => ({ progress: { onWrite: die } })],
    ['when it has written all', (die) => ({ log: readingAll(2, die) })],
    ['when it has switched some', (die) => ({ log: readingAll(9, die) })],
  ];
  const readingAll = (times: number, die: () => never): Partial<EventStore> => {
    let calls = 0;
    return { readAll: (after) => (++calls === times ? die() : log.readAll(after)) };
  };

  it.each(deaths)('that dies %s leaves what is served as it was, and the next one finishes', async (_, at) => {
    await fill();
    const before = await everything();
    const die = () => {
      throw new Error('dead');
    };
    const { progress = {}, log: dying = {} } = at(die);
    const through: EventStore = Object.assign(Object.create(log), dying, {
      end: () => log.end(),
      eventAt: log.eventAt.bind(log),
      readAll: dying.readAll ?? log.readAll.bind(log),
    });
    await expect(rebuild(through, redis, prefix, { ...silent, ...progress })).rejects.toThrow('dead');
    expect(await everything()).toEqual(before);
    expect(await differences()).toEqual([]);
    const id = await create('a', 'after');
    expect((await list('a'))[0]).toMatchObject({ id });

    for (const { generations } of partitions()) {
      for (const left of await redis.hkeys(generations)) await redis.hset(generations, left, 0);
    }
    const { generation } = await rebuild(log, redis, prefix, silent);
    expect(new Set(await generations())).toEqual(new Set([generation]));
    expect(await beside()).toEqual([]);
    expect(await differences()).toEqual([]);
  });

  it('whose generation is lost with all of Redis says so, and switches nothing', async () => {
    await fill();
    const before = await everything();
    let flushed: Promise<unknown> | undefined;
    const flush = () => {
      flushed ??= redis.keys(`${prefix}:*`).then((keys) => redis.del(...keys));
    };
    await expect(rebuild(log, redis, prefix, { ...silent, onWrite: flush })).rejects.toThrow(GenerationLost);
    await flushed;
    await eventually(async () => {
      const answers = await Promise.all(repos.map((one) => service.ask('GET', keysOf(one), { token: admin })));
      return answers.every(({ status }) => status === 200);
    });
    expect(await everything()).toEqual(before);
  });

  it('that died leaves nothing for long: an instance that starts removes what nobody finishes', async () => {
    await fill();
    const die = () => {
      throw new Error('dead');
    };
    await expect(rebuild(log, redis, prefix, { ...silent, onWrite: die })).rejects.toThrow('dead');
    const [left] = await beside();
    expect(await redis.keys(`${prefix}:*:${left}:*`)).not.toEqual([]);
    const { EVENT_STORE_URL } = service.config;
    const start = () => runService({ READ_MODEL_URL: server.url, REDIS_PREFIX: prefix, EVENT_STORE_URL });
    await (await start()).stop();
    expect(await beside()).toEqual([left]);
    for (const { generations } of partitions()) {
      if (await redis.hexists(generations, left ?? '')) await redis.hset(generations, left ?? '', 0);
    }
    await (await start()).stop();
    expect(await beside()).toEqual([]);
    expect(await redis.keys(`${prefix}:*:${left}:*`)).toEqual([]);
  });

  it('takes the place of a read model of another log', async () => {
    await fill();
    const other = await runService();
    const otherLog = await openEventStore(other.config.EVENT_STORE_URL, {
      onFatal: failed,
      warn: () => undefined,
    });
    try {
      const token = await other.token('admin');
      await other.ask('POST', keysOf('a'), { token, body: { name: 'only', aiType: 'AWS' } });
      const found = await differencesBetween(otherLog, redis, prefix);
      expect(found.map(({ difference }) => difference).join()).toMatch(/the log does not hold/);
      await rebuild(otherLog, redis, prefix, silent);
      expect(await differencesBetween(otherLog, redis, prefix)).toEqual([]);
    } finally {
      await otherLog.close();
      await other.stop();
    }
  });
});

whereThereIsRedis('versions of the read model in one Redis', () => {
  const logger = pino({ level: 'silent' });

  it('stay while an instance serves them, and an older one is removed when nobody does', async () => {
    const server = await startRedis();
    const redis = new Redis(server.url);
    const prefix = `test-${randomUUID()}`;
    const old = [`${prefix}:1:{3}:live`, `${prefix}:1:{3}:g:items:shop`];
    const later = `${prefix}:99:{3}:live`;
    const elsewhere = `${prefix}:1:3:{3}:live`;
    for (const key of [...old, later, elsewhere]) await redis.set(key, 'x');
    await redis.sadd(`${prefix}:versions`, 1, 99);
    await redis.set(`${prefix}:1:{writer}:present`, 1);
    const start = async () => {
      const model = openRedisReadModel(server.url, prefix, logger);
      await eventually(() =>
        model
          .restore(keySourceOf(), async () => false)
          .then(
            () => true,
            () => false,
          ),
      );
      await model.close();
    };
    try {
      await start();
      expect(await redis.exists(...old)).toBe(2);
      await redis.del(`${prefix}:1:{writer}:present`);
      await start();
      expect(await redis.exists(...old)).toBe(0);
      expect(await redis.exists(later, elsewhere)).toBe(2);
      expect((await redis.smembers(`${prefix}:versions`)).sort()).toEqual(['3', '99']);
    } finally {
      redis.disconnect();
      await server.stop();
    }
  });
});
