import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { eventually } from './support/assertions/eventually.js';
import { combinations } from './support/servers/combinations.js';
import { type Answer, type Json, type Running, runService } from './support/servers/service.js';

type Key = { readonly id: string; readonly key: string; readonly secret: string };

describe.each(combinations)('the life of a key on $name', ({ start }) => {
  let service: Running;
  let admin: string;
  let verifier: string;
  let stopParts: () => Promise<void>;
  beforeAll(async () => {
    const parts = await start();
    stopParts = parts.stop;
    service = await runService({ RATE_LIMIT: '0', ...parts.settings });
    admin = await service.token('admin', '*');
    verifier = await service.token('verifier', '*');
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });

  const repo = () => `/repo/${randomUUID()}/ai/apikey`;
  const ask = (method: string, path: string, body?: unknown, headers = {}) =>
    service.ask(method, path, { token: admin, body, headers });
  const create = async (keys: string, body: object = {}) => {
    const answer = await ask('POST', keys, { name: 'search', aiType: 'OPENAI', ...body });
    expect(answer.status).toBe(201);
    const { id, key, secret } = answer.json as Key;
    return { id, key, secret, path: `${keys}/${id}` };
  };
  const verify = async ({ key, secret }: { key: string; secret: string }, more = {}) =>
    (await service.ask('POST', '/verify', { token: verifier, body: { key, secret, ...more } })).json;
  const refused = (reason: string) => ({ success: true, valid: false, reason });
  const show = async (path: string) => (await ask('GET', path)).json['apiKey'] as Json;
  const list = async (keys: string, query = '') =>
    ((await ask('GET', `${keys}?${query}`)).json['apiKeys'] as Json[]).map(({ id }) => id);
  const expectError = ({ status, json }: Answer, expected: number, code: string, message = /./) => {
    expect([status, json['code']]).toEqual([expected, code]);
    expect(json['message']).toMatch(message);
  };
  const soon = () => new Date(Date.now() + 3_600_000).toISOString();

  describe('rotating', () => {
    it('keeps id and access key, and gives a new secret; the old one is dead', async () => {
      const old = await create(repo());
      const { status, json, headers } = await ask('POST', `${old.path}/rotate`);
      expect(status).toBe(200);
      expect(json).toEqual({
        success: true,
        id: old.id,
        key: old.key,
        secret: expect.stringMatching(/^secret_[A-Za-z0-9]{49}$/),
      });
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('keyledger-position')).toMatch(/:/);
      expect(await verify(json as Key)).toMatchObject({ valid: true });
      expect(await verify(old)).toEqual(refused('BAD_SECRET'));
    });

    it('with an overlap keeps the old secret valid until that ends, or until the next rotation', async () => {
      const old = await create(repo());
      const next = (await ask('POST', `${old.path}/rotate`, { overlapSeconds: 3600 })).json as Key;
      expect(await verify(old)).toMatchObject({ valid: true });
      expect(await verify(next)).toMatchObject({ valid: true });
      const short = (await ask('POST', `${old.path}/rotate`, { overlapSeconds: 1 })).json as Key;
      expect(await verify(old)).toEqual(refused('BAD_SECRET'));
      await eventually(async () => (await verify(next))['valid'] === false);
      expect(await verify(short)).toMatchObject({ valid: true });
    });

    it('repeated with its Idempotency-Key never rotates twice, not even after a later rotation', async () => {
      const old = await create(repo());
      const once = { 'idempotency-key': 'roll' };
      const rotate = (headers = {}, body?: object) => ask('POST', `${old.path}/rotate`, body, headers);
      const both = await Promise.all([rotate(once), rotate(once)]);
      expect(both[1].json).toEqual(both[0].json);
      expect((await rotate(once)).json).toEqual(both[0].json);
      expectError(await rotate(once, { overlapSeconds: 5 }), 422, 'IDEMPOTENCY_KEY_REUSED');
      const later = (await rotate()).json as Key;
      const late = await rotate(once);
      expectError(late, 409, 'IDEMPOTENCY_KEY_USED');
      expect(late.json).toMatchObject({ id: old.id });
      expect(late.json['secret']).toBeUndefined();
      expect(await verify(later)).toMatchObject({ valid: true });
    });

    it('counts the Idempotency-Key for each caller', async () => {
      const old = await create(repo());
      const bob = await service.token('admin', '*', 'bob');
      const headers = { 'idempotency-key': 'roll' };
      const mine = (await ask('POST', `${old.path}/rotate`, undefined, headers)).json as Key;
      const his = (await service.ask('POST', `${old.path}/rotate`, { token: bob, headers })).json as Key;
      expect(his.secret).not.toBe(mine.secret);
    });

    it.each([[{ overlapSeconds: -1 }], [{ overlapSeconds: 1.5 }], [{ overlapSeconds: 1e9 }], [[]]])(
      'with %j is 400',
      async (body) => {
        const { path } = await create(repo());
        expectError(await ask('POST', `${path}/rotate`, body), 400, 'INVALID_INPUT');
      },
    );
  });

  describe('suspending', () => {
    it('refuses the key until it is resumed, and says so in lists', async () => {
      const keys = repo();
      const key = await create(keys);
      const other = await create(keys);
      expect((await ask('POST', `${key.path}/suspend`, { reason: 'odd traffic' })).json).toEqual({
        success: true,
        message: 'API key suspended',
      });
      expect(await verify(key)).toEqual(refused('SUSPENDED'));
      expect(await show(key.path)).toMatchObject({ status: 'suspended' });
      expect(await list(keys, 'status=suspended')).toEqual([key.id]);
      expect(await list(keys, 'status=active')).toEqual([other.id]);
      expect((await ask('POST', `${key.path}/suspend`)).json['message']).toMatch(/already/);
      expect((await ask('POST', `${key.path}/resume`)).json['message']).toBe('API key resumed');
      expect(await verify(key)).toMatchObject({ valid: true });
      expect((await ask('POST', `${key.path}/resume`)).status).toBe(200);
    });

    it('with a reason that is none is 400', async () => {
      const { path } = await create(repo());
      expectError(await ask('POST', `${path}/suspend`, { reason: 'a\u0000' }), 400, 'INVALID_INPUT', /reason/);
      expectError(await ask('POST', `${path}/suspend`, { reason: 'x'.repeat(201) }), 400, 'INVALID_INPUT');
    });
  });

  describe('an expiry', () => {
    it('is taken with any offset, ends the key without an event, and can be moved to revive it', async () => {
      const keys = repo();
      const expiresAt = new Date(Date.now() + 1500).toISOString();
      const key = await create(keys, { expiresAt: expiresAt.replace('Z', '+00:00') });
      expect(await show(key.path)).toMatchObject({ expiresAt, status: 'active' });
      expect(await verify(key)).toMatchObject({ valid: true, apiKey: { expiresAt } });
      await eventually(async () => (await verify(key))['reason'] === 'EXPIRED');
      expect(await list(keys, 'status=expired')).toEqual([key.id]);
      const later = soon();
      expect((await ask('PUT', key.path, { expiresAt: later })).status).toBe(200);
      expect(await verify(key)).toMatchObject({ valid: true, apiKey: { expiresAt: later } });
      await ask('PUT', key.path, { expiresAt: null });
      expect(await show(key.path)).toMatchObject({ expiresAt: null, name: 'search' });
    });

    it.each(['2020-01-01T00:00:00Z', 'tomorrow', 1_900_000_000, '2030-01-01'])(
      'of %j is 400, and changes nothing',
      async (expiresAt) => {
        const keys = repo();
        const body = { name: 'x', aiType: 'AWS', expiresAt };
        expectError(await ask('POST', keys, body), 400, 'INVALID_INPUT', /expiresAt/);
        expect(await list(keys)).toEqual([]);
        const key = await create(keys);
        expectError(await ask('PUT', key.path, { name: 'y', expiresAt }), 400, 'INVALID_INPUT', /expiresAt/);
        expect(await show(key.path)).toMatchObject({ name: 'search', expiresAt: null });
      },
    );
  });

  describe('one key', () => {
    it('is shown with the fields that lists have', async () => {
      const keys = repo();
      const { id, path } = await create(keys);
      expect(await show(path)).toEqual(((await ask('GET', keys)).json['apiKeys'] as Json[])[0]);
      expectError(await ask('GET', `${keys}/${randomUUID()}`), 404, 'KEY_NOT_FOUND');
      expectError(await ask('GET', `${repo()}/${id}`), 404, 'KEY_NOT_FOUND');
      expectError(await ask('GET', `${keys}/nonsense`), 404, 'KEY_NOT_FOUND');
    });

    it('that is deleted is shown to whom asks for deleted ones', async () => {
      const { path } = await create(repo());
      await ask('DELETE', path);
      expectError(await ask('GET', path), 404, 'KEY_NOT_FOUND');
      const { json } = await ask('GET', `${path}?include=deleted`);
      expect(json['apiKey']).toMatchObject({ status: 'deleted', deletedAt: expect.stringMatching(/Z$/) });
    });
  });

  describe('a list', () => {
    it('can be had with deleted keys, by status and by provider', async () => {
      const keys = repo();
      const [a, b, c] = [
        await create(keys),
        await create(keys, { aiType: 'AWS' }),
        await create(keys, { aiType: 'AWS' }),
      ];
      await ask('DELETE', b.path);
      expect(await list(keys)).toEqual([c.id, a.id]);
      expect(await list(keys, 'include=deleted')).toEqual([c.id, b.id, a.id]);
      expect(await list(keys, 'status=deleted')).toEqual([b.id]);
      expect(await list(keys, 'aiType=AWS')).toEqual([c.id]);
      expect(await list(keys, 'include=deleted&aiType=AWS')).toEqual([c.id, b.id]);
    });

    it('can be had page by page, without a gap or a repeat while keys are made and deleted', async () => {
      const keys = repo();
      const made: string[] = [];
      for (let n = 0; n < 7; n++) made.push((await create(keys)).id);
      const found: unknown[] = [];
      for (let cursor = ''; ; ) {
        const { json } = await ask('GET', `${keys}?limit=3${cursor}`);
        const page = (json['apiKeys'] as Json[]).map(({ id }) => id);
        found.push(...page);
        if (json['nextCursor'] === null) break;
        expect(page).toHaveLength(3);
        cursor = `&cursor=${json['nextCursor']}`;
        await create(keys);
        await ask('DELETE', `${keys}/${page[2]}`);
      }
      expect(found).toEqual([...made].reverse());
      expect((await ask('GET', `${keys}?limit=1000`)).json['nextCursor']).toBeNull();
      expect((await ask('GET', keys)).json).not.toHaveProperty('nextCursor');
    });

    it.each(['limit=0', 'limit=1001', 'limit=x', 'cursor=x', 'status=odd', 'aiType=odd', 'include=odd'])(
      'with %s is 400',
      async (query) => expectError(await ask('GET', `${repo()}?${query}`), 400, 'INVALID_INPUT'),
    );

    it('with the cursor of another log is 409', async () => {
      const cursor = `${randomUUID()}:0000000000000001`;
      expectError(await ask('GET', `${repo()}?cursor=${cursor}`), 409, 'OTHER_LOG');
    });
  });

  describe('a leaked credential', () => {
    const revoke = (body: unknown) => service.ask('POST', '/revoke', { body });

    it('ends its key for anyone who holds it, without a token', async () => {
      const keys = repo();
      const key = await create(keys);
      const answer = await revoke({ key: key.key, secret: key.secret });
      expect(answer.status).toBe(200);
      expect(await verify(key)).toEqual(refused('DELETED'));
      expect(await list(keys, 'status=deleted')).toEqual([key.id]);
      const again = await revoke({ key: key.key, secret: key.secret });
      expect([again.status, again.json]).toEqual([200, answer.json]);
    });

    it('is answered alike when it is none, and ends nothing', async () => {
      const key = await create(repo());
      for (const body of [
        { key: key.key, secret: makeSecret() },
        { key: makeAccessKey(), secret: key.secret },
        { key: 'x', secret: 'y' },
      ]) {
        const { status, json } = await revoke(body);
        expect([status, json]).toEqual([200, { success: true, message: expect.stringMatching(/now deleted/) }]);
      }
      expect(await verify(key)).toMatchObject({ valid: true });
      expectError(await revoke({ key: key.key }), 400, 'INVALID_INPUT', /secret/);
    });
  });

  it('takes no change from those who may only look, and none for a key of another repository', async () => {
    const key = await create(repo());
    const viewer = await service.token('viewer', '*');
    for (const action of ['rotate', 'suspend', 'resume']) {
      const path = `${key.path}/${action}`;
      expectError(await service.ask('POST', path, { token: viewer }), 403, 'FORBIDDEN');
      expectError(await service.ask('POST', path, {}), 401, 'UNAUTHENTICATED');
      expectError(await ask('POST', `${repo()}/${key.id}/${action}`), 404, 'KEY_NOT_FOUND');
      expectError(await ask('POST', `${repo()}/nonsense/${action}`), 404, 'KEY_NOT_FOUND');
    }
    await ask('DELETE', key.path);
    for (const action of ['rotate', 'suspend', 'resume']) {
      expectError(await ask('POST', `${key.path}/${action}`), 404, 'KEY_NOT_FOUND');
    }
  });
});
