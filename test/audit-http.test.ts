import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { openEventStore } from '../src/event-store/open.js';
import { accessesOf } from './support/assertions/audit-accesses.js';
import { combinations } from './support/servers/combinations.js';
import { type Answer, type Json, type Running, runService } from './support/servers/service.js';

const failed = (error: Error) => {
  throw error;
};

describe.each(combinations)('audit over HTTP on $name', ({ start }) => {
  let service: Running;
  let admin: string;
  let stopParts: () => Promise<void>;
  beforeAll(async () => {
    const parts = await start();
    stopParts = parts.stop;
    service = await runService({ RATE_LIMIT: '0', ...parts.settings });
    admin = await service.token('admin', '*');
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });

  const keysOf = (repoId: string) => `/repo/${repoId}/ai/apikey`;
  const ask = (method: string, path: string, body?: object, token = admin) =>
    service.ask(method, path, { token, ...(body ? { body } : {}) });
  const create = async (repoId: string, name = 'search') => {
    const { json } = await ask('POST', keysOf(repoId), { name, aiType: 'AWS' });
    return json as { id: string; key: string; secret: string };
  };
  /** A key that has undergone every change. */
  const createAndChange = async (repoId: string) => {
    const made = await create(repoId);
    const one = `${keysOf(repoId)}/${made.id}`;
    await ask('PUT', one, { name: 'find' });
    await ask('PUT', one, { expiresAt: '2099-01-01T00:00:00.000Z' });
    await ask('POST', `${one}/rotate`, { overlapSeconds: 60 });
    await ask('POST', `${one}/suspend`, { reason: 'odd' });
    await ask('POST', `${one}/resume`);
    await ask('DELETE', one);
    return { ...made, one };
  };
  const events = ({ json }: Answer) => json['events'] as Json[];
  const audit = (repoId: string, query = '', token = admin) =>
    ask('GET', `/repo/${repoId}/ai/audit${query}`, undefined, token);
  const accesses = async (repoId: string) =>
    (await accessesOf(service.config)).filter(({ data }) => data.repoId === repoId);
  const appendRaw = async (id: string, revision: number) => {
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: failed,
      warn: () => undefined,
    });
    const event = { id: randomUUID(), type: 'ApiKeyLent', data: { apiKeyId: id }, metadata: {} };
    await log.append(apiKeyStream(id), [event], revision);
    await log.close();
  };
  const expectError = (answer: Answer, status: number, code: string, message = /./) =>
    expect([answer.status, answer.json]).toEqual([
      status,
      expect.objectContaining({ success: false, code, message: expect.stringMatching(message) }),
    ]);

  describe('the history of a key', () => {
    it('tells every event: when, who, and what changed from which value to which, and nothing secret', async () => {
      const repoId = randomUUID();
      const { id, key, secret, one } = await createAndChange(repoId);
      const answer = await ask('GET', `${one}/history`);
      expect(answer.status).toBe(200);
      const [created, ...later] = events(answer);
      expect(created).toEqual({
        id: expect.any(String),
        type: 'ApiKeyCreated',
        at: expect.stringMatching(/^20.*Z$/),
        actor: { issuer: 'keyledger', subject: 'ada' },
        requestId: expect.any(String),
        apiKeyId: id,
        revision: 0,
        position: expect.any(String),
        changes: {
          repoId: { from: null, to: repoId },
          name: { from: null, to: 'search' },
          aiType: { from: null, to: 'AWS' },
          key: { from: null, to: key },
          status: { from: null, to: 'active' },
          secretVersion: { from: null, to: 1 },
        },
      });
      expect(later.map(({ type, changes, reason }) => ({ type, changes, reason }))).toEqual([
        { type: 'ApiKeyRenamed', changes: { name: { from: 'search', to: 'find' } } },
        {
          type: 'ApiKeyExpiryChanged',
          changes: { expiresAt: { from: null, to: '2099-01-01T00:00:00.000Z' } },
        },
        {
          type: 'ApiKeySecretRotated',
          changes: {
            secretVersion: { from: 1, to: 2 },
            overlapEndsAt: { from: null, to: expect.stringMatching(/Z$/) },
          },
        },
        { type: 'ApiKeySuspended', changes: { status: { from: 'active', to: 'suspended' } }, reason: 'odd' },
        { type: 'ApiKeyResumed', changes: { status: { from: 'suspended', to: 'active' } } },
        {
          type: 'ApiKeyDeleted',
          changes: { status: { from: 'active', to: 'deleted' } },
          reason: 'requested',
        },
      ]);
      expect(later.map(({ revision }) => revision)).toEqual([1, 2, 3, 4, 5, 6]);
      const positions = events(answer).map(({ position }) => position as string);
      expect(positions).toEqual([...positions].sort());
      expect(answer.text).not.toMatch(new RegExp(`${secret}|v1\\.|[0-9a-f]{64}`));
    });

    it('continues after an unreadable event, and says why', async () => {
      const repoId = randomUUID();
      const { id } = await create(repoId);
      await appendRaw(id, 0);
      await ask('DELETE', `${keysOf(repoId)}/${id}`);
      expect(events(await ask('GET', `${keysOf(repoId)}/${id}/history`))).toEqual([
        expect.objectContaining({ type: 'ApiKeyCreated' }),
        expect.objectContaining({
          type: 'ApiKeyLent',
          actor: null,
          unreadable: 'unknown event type ApiKeyLent',
          changes: { status: { from: 'active', to: 'unavailable' } },
        }),
        expect.objectContaining({
          type: 'ApiKeyDeleted',
          changes: { status: { from: 'unavailable', to: 'deleted' } },
        }),
      ]);
    });

    it('is refused for a key of another repository or of none, and without the right to audit', async () => {
      const repoId = randomUUID();
      const { id } = await create(repoId);
      const other = randomUUID();
      expectError(await ask('GET', `${keysOf(other)}/${id}/history`), 404, 'KEY_NOT_FOUND');
      expectError(await ask('GET', `${keysOf(repoId)}/${randomUUID()}/history`), 404, 'KEY_NOT_FOUND');
      expectError(await ask('GET', `${keysOf(repoId)}/x/history`), 404, 'KEY_NOT_FOUND');
      for (const role of ['viewer', 'verifier', 'replica']) {
        const token = await service.token(role, repoId);
        expectError(await ask('GET', `${keysOf(repoId)}/${id}/history`, undefined, token), 403, 'FORBIDDEN');
        expectError(await audit(repoId, '', token), 403, 'FORBIDDEN');
      }
      expect(await accesses(repoId)).toEqual([]);
      const auditor = await service.token('auditor', repoId, 'eve');
      expect((await ask('GET', `${keysOf(repoId)}/${id}/history`, undefined, auditor)).status).toBe(200);
      expect(await accesses(repoId)).toEqual([
        expect.objectContaining({
          actor: { issuer: 'keyledger', subject: 'eve' },
          data: { access: 'history', repoId, apiKeyId: id, query: {}, from: '127.0.0.1', verified: true },
        }),
      ]);
    });
  });

  describe('the events of a repository', () => {
    it('are listed newest first, with earlier audit accesses, but not this one', async () => {
      const repoId = randomUUID();
      const { id } = await createAndChange(repoId);
      await create(randomUUID());
      const first = events(await audit(repoId));
      expect(first.map(({ type }) => type)).toEqual([
        'ApiKeyDeleted',
        'ApiKeyResumed',
        'ApiKeySuspended',
        'ApiKeySecretRotated',
        'ApiKeyExpiryChanged',
        'ApiKeyRenamed',
        'ApiKeyCreated',
      ]);
      expect(first.reverse()).toEqual(events(await ask('GET', `${keysOf(repoId)}/${id}/history`)));
      const seen = events(await audit(repoId, `?type=AuditAccessed`));
      expect(seen.map(({ accessed }) => (accessed as Json)['access'])).toEqual(['history', 'audit']);
      expect(seen[0]).toMatchObject({ apiKeyId: id, changes: {}, actor: { subject: 'ada' } });
    });

    it('are filtered by type, actor, key, time and position', async () => {
      const repoId = randomUUID();
      const a = await create(repoId, 'a');
      const bob = await service.token('admin', repoId, 'bob');
      await service.ask('PUT', `${keysOf(repoId)}/${a.id}`, { token: bob, body: { name: 'a2' } });
      const b = await create(repoId, 'b');
      const [third, second, first] = events(await audit(repoId));
      const ids = async (query: string) => {
        const found = events(await audit(repoId, query)).filter(({ type }) => type !== 'AuditAccessed');
        return found.map((event) => event['id']);
      };
      const [one, two, three] = [first?.['id'], second?.['id'], third?.['id']];
      expect(await ids('?type=ApiKeyRenamed')).toEqual([two]);
      expect(await ids('?type=ApiKeyRenamed,ApiKeyCreated')).toEqual([three, two, one]);
      expect(await ids('?actor=bob')).toEqual([two]);
      expect(await ids('?actor=nobody')).toEqual([]);
      expect(await ids(`?apikeyId=${b.id}`)).toEqual([three]);
      expect(await ids(`?apikeyId=${randomUUID()}`)).toEqual([]);
      expect(await ids(`?from=${first?.['position']}&to=${second?.['position']}`)).toEqual([two]);
      expect(await ids(`?to=${first?.['at']}&type=ApiKeyCreated&apikeyId=${a.id}`)).toEqual([one]);
      expect(await ids(`?from=${third?.['at']}&type=ApiKeyCreated&apikeyId=${b.id}`)).toEqual([three]);
      expect(await ids('?from=2099-01-01T00:00:00Z')).toEqual([]);
      expect(await ids('?to=2001-01-01T00:00:00%2B02:00')).toEqual([]);
    });

    it('are paged: none twice and none left out, whatever happens meanwhile', async () => {
      const repoId = randomUUID();
      const { id } = await createAndChange(repoId);
      const expected = events(await ask('GET', `${keysOf(repoId)}/${id}/history`)).reverse();
      for (const limit of [1, 2, 3, 7, 8]) {
        const found: Json[] = [];
        for (let cursor: unknown = '', pages = 0; cursor !== null; pages++) {
          const after = cursor === '' ? '' : `&cursor=${cursor}`;
          const types =
            'ApiKeyCreated,ApiKeyRenamed,ApiKeyExpiryChanged,ApiKeySecretRotated,ApiKeySuspended,ApiKeyResumed,ApiKeyDeleted';
          const answer = await audit(repoId, `?limit=${limit}&apikeyId=${id}&type=${types}${after}`);
          expect(events(answer).length).toBeLessThanOrEqual(limit);
          found.push(...events(answer));
          cursor = answer.json['nextCursor'];
          await create(repoId);
          expect(pages).toBeLessThan(10);
        }
        expect(found).toEqual(expected);
      }
    });

    it('are listed up to now by an instance without recent events', async () => {
      const repoId = randomUUID();
      const { id } = await create(repoId);
      await appendRaw(id, 0);
      expect(events(await audit(repoId))[0]).toMatchObject({ type: 'ApiKeyLent', apiKeyId: id });
    });

    it('are written down as asked, once an answer', async () => {
      const repoId = randomUUID();
      await create(repoId);
      await audit(repoId, '?limit=5&actor=ada&type=ApiKeyCreated&from=2026-01-01T00:00:00Z');
      expect((await accesses(repoId)).map(({ data }) => data)).toEqual([
        {
          access: 'audit',
          repoId,
          apiKeyId: null,
          query: { limit: 5, actor: 'ada', type: 'ApiKeyCreated', from: '2026-01-01T00:00:00Z' },
          from: '127.0.0.1',
          verified: true,
        },
      ]);
    });

    it.each([
      ['?limit=0', 400, 'INVALID_INPUT', /limit/],
      ['?type=ApiKeyLent', 400, 'INVALID_INPUT', /type: must be one or several/],
      ['?from=yesterday', 400, 'INVALID_INPUT', /neither a position/],
      ['?cursor=x', 400, 'INVALID_INPUT', /position/],
      [`?cursor=${randomUUID()}:${'0'.repeat(16)}`, 409, 'OTHER_LOG', /another log/],
      [`?to=${randomUUID()}:${'0'.repeat(16)}`, 409, 'OTHER_LOG', /another log/],
    ])('refuse %s', async (query, status, code, message) => {
      expectError(await audit('shop', query), status, code, message);
    });

    it('are empty where nothing ever was', async () => {
      expect((await audit(randomUUID())).json).toEqual({ success: true, events: [], nextCursor: null });
    });
  });

  describe('POST /systemevent', () => {
    const systemEvents = (body: object, token = admin) => ask('POST', '/systemevent', body, token);
    /** Token of an auditor of a single repository. */
    const auditorOf = (repoId: string) => service.token('auditor', repoId, 'eve');
    const page = { skip: 0, take: 100 };

    it('answers in the words of the existing API, newest first', async () => {
      const repoId = randomUUID();
      const { id } = await createAndChange(repoId);
      const { status, json } = await systemEvents(page, await auditorOf(repoId));
      expect(status).toBe(200);
      expect(json).toMatchObject({ total: 7, skip: 0, take: 100 });
      const found = json['events'] as Json[];
      expect(found.map(({ event }) => event)).toEqual(['deleted', ...Array(5).fill('updated'), 'created']);
      expect(found[6]).toEqual({
        id: expect.any(Number),
        timestamp: expect.stringMatching(/^20.*Z$/),
        contextId: id,
        context: 'aillmapikey',
        event: 'created',
        orgId: '',
        userId: 'ada',
        userName: '',
        userEmail: '',
        workspaceId: null,
        jsonData: expect.stringContaining(repoId),
        showUnread: true,
      });
      const numbers = found.map((event) => event['id'] as number);
      expect(new Set(numbers).size).toBe(7);
      for (const number of numbers) expect(Number.isSafeInteger(number) && number > 0).toBe(true);
      const again = (await systemEvents(page, await auditorOf(repoId))).json['events'];
      expect(again).toEqual(found);
      expect((await accesses(repoId)).length).toBe(0);
    });

    it('selects and pages', async () => {
      const repoId = randomUUID();
      const { id } = await createAndChange(repoId);
      const eve = await auditorOf(repoId);
      const total = async (filter: object) => (await systemEvents({ ...page, ...filter }, eve)).json['total'];
      const nothing = { from_timestamp: null, contextId: null, context: null, event: null, userId: null };
      expect(await total({ ...nothing, to_timestamp: null, workspaceId: null, showUnread: null })).toBe(7);
      expect(await total({ contextId: id, context: 6, showUnread: true })).toBe(7);
      expect(await total({ contextId: id.toUpperCase(), context: 12 })).toBe(7);
      expect(await total({ contextId: randomUUID() })).toBe(0);
      expect(await total({ contextId: '12' })).toBe(0);
      expect(await total({ context: 1 })).toBe(0);
      expect([await total({ event: 0 }), await total({ event: 1 }), await total({ event: 2 })]).toEqual([1, 5, 1]);
      expect(await total({ event: 3 })).toBe(0);
      expect(await total({ userId: 'ada' })).toBe(7);
      expect(await total({ userId: 'eve' })).toBe(0);
      expect(await total({ workspaceId: 'w' })).toBe(0);
      expect(await total({ from_timestamp: '2099-01-01T00:00:00+01:00' })).toBe(0);
      expect(await total({ from_timestamp: 0, to_timestamp: Date.now() + 60_000 })).toBe(7);
      expect(await total({ to_timestamp: '2001-01-01T00:00:00Z' })).toBe(0);
      const all = (await systemEvents(page, eve)).json['events'] as Json[];
      const some = await systemEvents({ skip: 2, take: 3 }, eve);
      expect(some.json).toEqual({ events: all.slice(2, 5), total: 7, skip: 2, take: 3 });
      expect((await systemEvents({ skip: 7, take: 3 }, eve)).json).toMatchObject({ events: [], total: 7 });
    });

    it('is limited to the repositories that the caller may audit', async () => {
      const [mine, other] = [randomUUID(), randomUUID()];
      const { id } = await create(mine);
      await create(other);
      const found = (await systemEvents(page, await auditorOf(mine))).json['events'] as Json[];
      expect(found.map(({ contextId }) => contextId)).toEqual([id]);
      expectError(await systemEvents(page, await service.token('viewer', mine)), 403, 'FORBIDDEN');
      expectError(await service.ask('POST', '/systemevent', { body: page }), 401, 'UNAUTHENTICATED');
    });

    it('writes down who asked for what, before it answers', async () => {
      const repoId = randomUUID();
      const subject = randomUUID();
      const token = await service.token('auditor', repoId, subject);
      await systemEvents({ ...page, event: 0, userId: 'ada' }, token);
      const mine = (await accessesOf(service.config)).filter(({ actor }) => actor.subject === subject);
      expect(mine.map(({ data }) => data)).toEqual([
        {
          access: 'system-events',
          repoId: null,
          apiKeyId: null,
          query: { event: 0, userId: 'ada', skip: 0, take: 100 },
          from: '127.0.0.1',
          verified: true,
        },
      ]);
    });

    describe('marks', () => {
      const mark = (method: string, body: object, token: string) => ask(method, '/systemevent/read', body, token);
      const unread = async (token: string) =>
        (await systemEvents({ ...page, showUnread: true }, token)).json as { events: Json[]; total: number };

      it('of what a caller has read are its own, and can be taken back', async () => {
        const repoId = randomUUID();
        await createAndChange(repoId);
        const eve = await auditorOf(repoId);
        const bob = await service.token('auditor', repoId, 'bob');
        const ids = (await unread(eve)).events.map(({ id }) => id as number);
        expect(ids).toHaveLength(7);
        expect((await mark('POST', { id: ids[0] }, eve)).json).toEqual({ success: true });
        expect((await mark('POST', { ids: [ids[1], ids[2], ids[1]] }, eve)).json).toEqual({ success: true });
        const rest = await unread(eve);
        expect([rest.total, rest.events.map(({ id }) => id)]).toEqual([4, ids.slice(3)]);
        const all = (await systemEvents(page, eve)).json['events'] as Json[];
        expect(all.map(({ showUnread }) => showUnread)).toEqual([false, false, false, true, true, true, true]);
        expect((await unread(bob)).total).toBe(7);
        expect((await mark('DELETE', { ids: [ids[0], ids[6]] }, eve)).json).toEqual({ success: true });
        expect((await unread(eve)).events.map(({ id }) => id)).toEqual([ids[0], ...ids.slice(3)]);
      });

      it.each([[{}], [{ id: 1, ids: [2] }], [{ id: '1' }], [{ ids: [] }], [{ id: -1 }], [{ ids: [0.5] }]])(
        'of %j are 400',
        async (body) => {
          expectError(await mark('POST', body, admin), 400, 'INVALID_INPUT');
          expectError(await mark('DELETE', body, admin), 400, 'INVALID_INPUT');
        },
      );

      it('are for those who may audit, a thousand at a time', async () => {
        const ids = Array.from({ length: 1000 }, (_, i) => 2 ** 52 - 1 - i);
        const [viewer, eve] = [await service.token('viewer', 'shop'), await service.token('auditor', 'shop', 'max')];
        expectError(await mark('POST', { ids }, viewer), 403, 'FORBIDDEN');
        expect((await mark('POST', { ids }, eve)).status).toBe(200);
        expectError(await mark('POST', { ids: [...ids, 1] }, eve), 400, 'INVALID_INPUT');
      });
    });

    it.each([
      [{}, /skip/],
      [{ skip: 0, take: 1, contextId: 12 }, /contextId: must be text/],
      [{ skip: -1, take: 1 }, /skip: must be a whole number from 0 on/],
      [{ skip: 0, take: 0 }, /take: must be a whole number from 1 to 1000/],
      [{ skip: 0, take: 1001 }, /take/],
      [{ ...page, from_timestamp: 'yesterday' }, /from_timestamp: must be a time/],
      [{ ...page, userId: 7 }, /userId: must be text/],
      [{ ...page, showUnread: 1 }, /showUnread: must be true or false/],
      [[], /object/],
    ])('refuses %j', async (body, message) => {
      expectError(await systemEvents(body), 400, 'INVALID_INPUT', message);
    });
  });
});
