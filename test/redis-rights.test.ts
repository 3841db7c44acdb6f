import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { openRedisLastUsedStore } from '../src/last-used/redis-last-used.js';
import { openRedisReadModel } from '../src/projections/redis/read-model.js';
import { openRedisDeliveryStore } from '../src/subscribers/webhooks/redis-delivery-store.js';
import { eventually } from './support/assertions/eventually.js';
import { describeDeliveryStore, untilAvailable } from './support/contracts/delivery-store.js';
import { describeLastUsedStore, untilAvailable as usageInReach } from './support/contracts/last-used-store.js';
import { describeReadModel } from './support/contracts/read-model.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import { type Json, runService } from './support/servers/service.js';

/** The rights that docs/how-to/deploy.md shows suffice; the log explains when Redis denies one. */

const [, RIGHTS = ''] =
  /```redis\n(ACL SETUSER keyledger [^\n]*)\n```/.exec(readFileSync('docs/how-to/deploy.md', 'utf8')) ?? [];
const logger = pino({ level: 'silent' });

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('a Redis', () => {
  let server: RedisServer;
  let admin: Redis;
  let url: string;
  const as = (user: string) => server.url.replace('redis://', `redis://${user}@`);
  beforeAll(async () => {
    server = await startRedis();
    admin = new Redis(server.url);
    const [, ...words] = RIGHTS.split(' ');
    expect(await admin.call('ACL', ...words)).toBe('OK');
    url = as('keyledger:change-me');
  }, 120_000);
  afterAll(async () => {
    await admin?.call('ACL', 'DELUSER', 'keyledger', 'stranger');
    admin?.disconnect();
    await server?.stop();
  });

  describe('whose user has the rights of docs/how-to/deploy.md', () => {
    const ready = async (prefix: string) => {
      const model = openRedisReadModel(url, prefix, logger);
      await eventually(() =>
        model.checkpoint('any').then(
          () => true,
          () => false,
        ),
      );
      return model;
    };
    describeReadModel('Redis with the least rights', () => ready(`keyledger:rights-${Math.random()}`));
    describeLastUsedStore('Redis with the least rights', () =>
      usageInReach(openRedisLastUsedStore(url, 'keyledger:rights')),
    );
    describeDeliveryStore('Redis with the least rights', (log) =>
      untilAvailable(openRedisDeliveryStore(url, 'keyledger:rights', log)),
    );

    it('serves lists, last uses and read marks, and is refused nothing', async () => {
      await admin.call('ACL', 'LOG', 'RESET');
      const service = await runService({ READ_MODEL_URL: url });
      try {
        const token = await service.token('admin', '*');
        const path = '/repo/shop/ai/apikey';
        const made = await service.ask('POST', path, { token, body: { name: 'x', aiType: 'AWS' } });
        const { key, secret } = made.json as { key: string; secret: string };
        const verifier = await service.token('verifier', '*');
        await service.ask('POST', '/verify', { token: verifier, body: { key, secret } });
        expect((await service.ask('GET', path, { token })).json['apiKeys']).toHaveLength(1);
        const page = { skip: 0, take: 1, showUnread: true };
        const { json } = await service.ask('POST', '/systemevent', { token, body: page });
        const [event] = json['events'] as Json[];
        const marked = await service.ask('POST', '/systemevent/read', { token, body: { id: event?.['id'] } });
        expect(marked.status).toBe(200);
      } finally {
        await service.stop();
      }
      const refused = (await admin.call('ACL', 'LOG')) as unknown[];
      expect(JSON.stringify(refused)).not.toContain('keyledger');
    });
  });

  describe('that refuses', () => {
    const linesWith = async (wrong: string) => {
      const lines: string[] = [];
      const model = openRedisReadModel(
        wrong,
        'keyledger',
        pino({ level: 'info' }, { write: (line) => void lines.push(line) }),
      );
      const failures: string[] = [];
      for (let n = 0; n < 5; n++)
        await model.checkpoint('shop').catch((error: Error) => void failures.push(error.message));
      await model.close();
      return { logged: lines.map((line) => JSON.parse(line) as { msg: string; err?: object }), failures };
    };

    it.each([
      ['a password', () => as('keyledger:wrong'), /WRONGPASS .*\. Check user and password in the URL/],
      ['somebody without a password', () => as('stranger:x'), /WRONGPASS .*\. Check user and password/],
      [
        'a database',
        () => `${server.url}/9999`,
        /DB index is out of range\. End the URL with the number of a database/,
      ],
      ['a connection', () => 'redis://127.0.0.1:1', /ECONNREFUSED .*\. Is it running there/],
    ])('%s says so once, with the setting, its answer and what to do', async (_, wrong, text) => {
      const { logged, failures } = await linesWith(wrong());
      expect(logged.map(({ msg }) => msg)).toEqual([
        expect.stringMatching(/^READ_MODEL_URL: Redis at redis:\/\/\S+ cannot be used: /),
      ]);
      expect(logged[0]?.msg).toMatch(text);
      expect(logged[0]).not.toHaveProperty('err');
      expect(failures).toHaveLength(5);
      expect(failures.join()).not.toMatch(/enableOfflineQueue|change-me|wrong@/);
    });

    it('a command says so once', async () => {
      await admin.call('ACL', 'SETUSER', 'stranger', 'on', '>pw', '~other:*', '+@read', '+hello', '+info');
      const { logged, failures } = await linesWith(as('stranger:pw'));
      const refusals = logged.filter(({ msg }) => msg.startsWith('READ_MODEL_URL'));
      expect(refusals.map(({ msg }) => msg)).toEqual([
        expect.stringMatching(/NOPERM .*\. Give the user the rights of the ACL line in docs\/how-to\/deploy\.md/),
      ]);
      expect(failures).toHaveLength(5);
    });

    it('stores of last uses and cursors say so in its words, without stacks', async () => {
      await admin.call('ACL', 'SETUSER', 'stranger', 'on', '>pw', '~other:*', '+@read', '+hello', '+info');
      const lines: string[] = [];
      const wrong = as('stranger:pw');
      const lastUsedStore = openRedisLastUsedStore(wrong, 'keyledger');
      const deliveries = openRedisDeliveryStore(wrong, 'keyledger', 'log');
      for (const call of [() => lastUsedStore.read(['x']), () => deliveries.cursor('x')]) {
        await eventually(async () => {
          const message = await call().then(String, (error: Error) => error.message);
          lines.push(message);
          return /NOPERM/.test(message);
        });
      }
      expect(lines.join()).not.toMatch(/enableOfflineQueue/);
      await lastUsedStore.close();
      await deliveries.close();
    });

    it('a database keeps nothing in another one', async () => {
      await admin.flushall();
      const service = await runService({ READ_MODEL_URL: `${server.url}/9999` }, 'no lists');
      const token = await service.token('admin', '*');
      await service.ask('POST', '/repo/shop/ai/apikey', { token, body: { name: 'x', aiType: 'AWS' } });
      expect((await service.ask('GET', '/repo/shop/ai/apikey', { token })).status).toBe(503);
      await service.stop();
      expect(await admin.dbsize()).toBe(0);
    });
  });
});
