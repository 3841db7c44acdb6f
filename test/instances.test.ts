import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import { combinations } from './support/servers/combinations.js';
import { freePort, type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import type { Answer, Json } from './support/servers/service.js';

const body = { name: 'search', aiType: 'OPENAI' };

let folder: ReturnType<typeof temporaryFolder>;
let keys: string;
const children: Child[] = [];
beforeEach(() => {
  folder = temporaryFolder();
  keys = `/repo/${randomUUID()}/ai/apikey`;
});
afterEach(async () => {
  for (const child of children.splice(0)) if (child.process.exitCode === null) await child.end('SIGKILL');
  folder.remove();
});
const serve = async (settings: NodeJS.ProcessEnv) => {
  const child = await spawnService(folder.path, { RATE_LIMIT: '0', ...settings });
  children.push(child);
  return child;
};
const create = (child: Child, token: string, headers = {}) => child.ask('POST', keys, { token, body, headers });
const list = (child: Child, token: string, headers = {}) => child.ask('GET', keys, { token, headers });
const idsIn = ({ json }: Answer) => (json['apiKeys'] as Json[]).map(({ id }) => id);
const whole = (child: Child, token: string) => eventually(async () => (await list(child, token)).status === 200);

describe.each(combinations)('two instances on $name', ({ start }) => {
  it('show each other’s keys at once, with the position for certain and without it in the ordinary case', async () => {
    const parts = await start();
    try {
      const [one, two] = [await serve(parts.settings), await serve(parts.settings)];
      const token = await one.token('admin');
      await whole(one, token);
      await whole(two, token);
      let seenWithout = 0;
      for (let n = 1; n <= 50; n++) {
        const [here, there] = n % 2 ? [one, two] : [two, one];
        const created = await create(here, token);
        expect(created.status).toBe(201);
        if (idsIn(await list(there, token)).includes(created.json['id'])) seenWithout++;
        const position = created.headers.get('keyledger-position') ?? '';
        expect(idsIn(await list(there, token, { 'keyledger-min-position': position }))).toContain(created.json['id']);
      }
      if (parts.settings['READ_MODEL_URL']) expect(seenWithout).toBeGreaterThan(45);
    } finally {
      await parts.stop();
    }
  }, 120_000);

  it('refuse what the other has revoked, as soon as they have come so far', async () => {
    const parts = await start();
    try {
      const [one, two] = [await serve(parts.settings), await serve(parts.settings)];
      const [token, verifier] = [await one.token('admin'), await one.token('verifier')];
      for (let n = 0; n < 30; n++) {
        const [here, there] = n % 2 ? [one, two] : [two, one];
        const { json, headers } = await create(here, token);
        const { id, key, secret } = json;
        const verify = (position: string | null) =>
          there.ask('POST', '/verify', {
            token: verifier,
            body: { key, secret },
            headers: { 'keyledger-min-position': position ?? '' },
          });
        expect((await verify(headers.get('keyledger-position'))).json).toMatchObject({ valid: true });
        const revoked = await (n % 3
          ? here.ask('DELETE', `${keys}/${id}`, { token })
          : here.ask('POST', `${keys}/${id}/suspend`, { token }));
        const reason = n % 3 ? 'DELETED' : 'SUSPENDED';
        const after = await verify(revoked.headers.get('keyledger-position'));
        expect(after.json).toEqual({ success: true, valid: false, reason });
      }
    } finally {
      await parts.stop();
    }
  }, 120_000);

  it('rotate once for one Idempotency-Key, and show each other what is known of the last use', async () => {
    const parts = await start();
    try {
      const [one, two] = [await serve(parts.settings), await serve(parts.settings)];
      const token = await one.token('admin');
      await whole(two, token);
      const { json } = await create(one, token);
      const rotate = (child: Child) =>
        child.ask('POST', `${keys}/${json['id']}/rotate`, {
          token,
          body: { overlapSeconds: 60 },
          headers: { 'idempotency-key': 'roll' },
        });
      const answers = await Promise.all([one, two, one, two].map(rotate));
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
      expect(answers[0]?.status).toBe(200);

      const credential = { 'x-api-key': json['key'] as string, 'x-api-secret': json['secret'] as string };
      expect((await two.ask('GET', '/verify/forward', { headers: credential })).status).toBe(200);
      await two.end('SIGTERM');
      const [listedKey] = (await list(one, token)).json['apiKeys'] as Json[];
      expect(listedKey?.['lastUsedAt']).toMatch(/:00\.000Z$/);
    } finally {
      await parts.stop();
    }
  }, 120_000);

  it('asked for the same at the same time make one key, and answer alike', async () => {
    const parts = await start();
    try {
      const [one, two] = [await serve(parts.settings), await serve(parts.settings)];
      const token = await one.token('admin');
      const pairs = await Promise.all(
        Array.from({ length: 200 }, () => {
          const headers = { 'idempotency-key': randomUUID() };
          return Promise.all([create(one, token, headers), create(two, token, headers)]);
        }),
      );
      for (const [a, b] of pairs) {
        expect([a.status, b.status]).toEqual([201, 201]);
        expect(b.json).toEqual(a.json);
      }
      const last =
        pairs
          .map(([a]) => a.headers.get('keyledger-position') ?? '')
          .sort()
          .at(-1) ?? '';
      await whole(two, token);
      const listed = idsIn(await list(two, token, { 'keyledger-min-position': last }));
      expect(listed.sort()).toEqual(pairs.map(([a]) => a.json['id']).sort());
    } finally {
      await parts.stop();
    }
  }, 120_000);
});

const whereRedisCanBeStopped = redisSource === 'redis-server' ? describe : describe.skip;
whereRedisCanBeStopped('Redis', () => {
  let redis: RedisServer;
  let port: number;
  let settings: NodeJS.ProcessEnv;
  beforeEach(async () => {
    port = await freePort();
    redis = await startRedis(port);
    settings = { READ_MODEL_URL: redis.url, LOG_LEVEL: 'silent' };
  });
  afterEach(() => redis.stop('SIGKILL'));

  /** Creates and lists until stopped; every list must hold all creations that were acknowledged before its request. */
  async function load(children: readonly Child[], token: string, during: () => Promise<void>) {
    const acknowledged: unknown[] = [];
    const wrong: unknown[] = [];
    let refusals = 0;
    let stopped = false;
    let position = '';
    const creating = children.map(async (child) => {
      while (!stopped) {
        const answer = await create(child, token);
        expect(answer.status).toBe(201);
        acknowledged.push(answer.json['id']);
        const at = answer.headers.get('keyledger-position') ?? '';
        if (at > position) position = at;
      }
    });
    const listing = children.map(async (child) => {
      while (!stopped) {
        const expected = [...acknowledged];
        const answer = await list(child, token, position ? { 'keyledger-min-position': position } : {});
        if (answer.status === 503) refusals++;
        else {
          const ids = new Set(idsIn(answer));
          if (!expected.every((id) => ids.has(id))) wrong.push([ids.size, expected.length]);
        }
      }
    });
    await during();
    stopped = true;
    await Promise.all([...creating, ...listing]);
    return { acknowledged, wrong, refusals };
  }
  const enough = (child: Child, token: string, count: number) =>
    eventually(async () => {
      const answer = await list(child, token);
      return answer.status === 200 && idsIn(answer).length >= count;
    });

  it('emptied under load is never served as empty, and is whole again', async () => {
    const both = [await serve(settings), await serve(settings)] as const;
    const token = await both[0].token('admin');
    for (const child of both) await whole(child, token);
    const admin = new Redis(redis.url);
    const { acknowledged, wrong } = await load(both, token, async () => {
      for (const count of [50, 100, 150]) {
        await enough(both[0], token, count);
        await admin.flushall();
      }
      await enough(both[1], token, 200);
    });
    admin.disconnect();
    expect(wrong).toEqual([]);
    for (const child of both) await enough(child, token, acknowledged.length);
    for (const child of both) expect(idsIn(await list(child, token)).sort()).toEqual([...acknowledged].sort());
  });

  it('killed under load stops reads but no commands, and comes back empty without a wrong answer', async () => {
    const both = [await serve(settings), await serve(settings)] as const;
    const token = await both[0].token('admin');
    for (const child of both) await whole(child, token);
    const { acknowledged, wrong, refusals } = await load(both, token, async () => {
      await enough(both[0], token, 50);
      await redis.stop('SIGKILL');
      await eventually(async () => (await list(both[0], token)).status === 503);
      expect((await create(both[0], token)).status).toBe(201);
      redis = await startRedis(port);
      await enough(both[0], token, 51);
      await enough(both[1], token, 51);
    });
    expect(wrong).toEqual([]);
    expect(refusals).toBeGreaterThan(0);
    await enough(both[0], token, acknowledged.length + 1);
    expect(idsIn(await list(both[0], token))).toEqual(expect.arrayContaining(acknowledged));
  });

  it('not there at the start stops reads but no commands, and is used as soon as it is there', async () => {
    await redis.stop('SIGKILL');
    const child = await serve(settings);
    const token = await child.token('admin');
    const created = await create(child, token);
    expect(created.status).toBe(201);
    expect((await list(child, token)).json).toMatchObject({ code: 'UNAVAILABLE' });
    redis = await startRedis(port);
    await whole(child, token);
    expect(idsIn(await list(child, token))).toEqual([created.json['id']]);
  });

  it('of another log is brought to this one', async () => {
    const first = await serve(settings);
    const token = await first.token('admin');
    await create(first, token);
    await first.end('SIGTERM');
    const other = temporaryFolder();
    const second = await spawnService(other.path, { ...settings, RATE_LIMIT: '0' });
    children.push(second);
    const its = await second.token('admin');
    await whole(second, its);
    expect(idsIn(await list(second, its))).toEqual([]);
    await second.end('SIGTERM');
    other.remove();
  });
});
