import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { accessesOf } from './support/assertions/audit-accesses.js';
import { combinations } from './support/servers/combinations.js';
import { type Answer, type Json, type Running, runService } from './support/servers/service.js';

describe.each(combinations)('on $name', ({ start }) => {
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

  /** A repository that no other test uses. */
  const newRepoId = () => randomUUID();
  const keysOf = (repoId: string) => `/repo/${repoId}/ai/apikey`;
  const create = (repoId: string, body: unknown = { name: 'search', aiType: 'OPENAI' }, headers = {}) =>
    service.ask('POST', keysOf(repoId), { token: admin, body, headers });
  const list = async (repoId: string, headers = {}) =>
    (await service.ask('GET', keysOf(repoId), { token: admin, headers })).json['apiKeys'] as Json[];

  const expectError = (answer: Answer, status: number, code: string, message = /./) => {
    expect(answer.status).toBe(status);
    expect(answer.json).toMatchObject({ success: false, code, message: expect.stringMatching(message) });
    expect(answer.json['requestId']).toBe(answer.headers.get('x-request-id'));
  };

  describe('create', () => {
    it('answers 201 with id, access key and secret, that no cache may keep', async () => {
      const { status, json, headers } = await create(newRepoId());
      expect(status).toBe(201);
      expect(json).toEqual({
        success: true,
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        key: expect.stringMatching(/^FB_AI_[A-Za-z0-9]{28}$/),
        secret: expect.stringMatching(/^secret_[A-Za-z0-9]{49}$/),
      });
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('keyledger-position')).toMatch(/^[0-9a-f-]{36}:[0-9a-f]{16,32}$/);
    });

    it('is in the list right after', async () => {
      const repoId = newRepoId();
      for (const name of ['a', 'b', 'c']) {
        const { json } = await create(repoId, { name, aiType: 'AWS' });
        expect((await list(repoId))[0]).toEqual({
          id: json['id'],
          name,
          repoId,
          key: json['key'],
          aiType: 'AWS',
          createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
          deletedAt: null,
          expiresAt: null,
          status: 'active',
        });
      }
      expect((await list(repoId)).map(({ name }) => name)).toEqual(['c', 'b', 'a']);
    });

    it.each(['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'])('takes the provider %s', async (aiType) => {
      expect((await create(newRepoId(), { name: 'x', aiType })).status).toBe(201);
    });

    it('trims the name, counts code points, and ignores members that begin with x- or _', async () => {
      const repoId = newRepoId();
      const name = '🔑'.repeat(200);
      expect(
        (await create(repoId, { name: `  ${name}\u00a0`, aiType: 'OTHER', 'x-trace': 1, _note: 'n' })).status,
      ).toBe(201);
      expect(await list(repoId)).toMatchObject([{ name }]);
    });

    const badBodies: [string, unknown, RegExp][] = [
      ['no name', { aiType: 'AWS' }, /^name: must be text of 1 to 200/],
      ['no provider', { name: 'x' }, /^aiType: must be one of OPENAI, GOOGLE, ANTHROPIC, AWS, OTHER/],
      ['an unknown provider', { name: 'x', aiType: 'openai' }, /^aiType: must be one of/],
      ['a name of a wrong type', { name: 7, aiType: 'AWS' }, /^name: /],
      ['an empty name', { name: '', aiType: 'AWS' }, /^name: /],
      ['a name of blanks', { name: ' \u2003 ', aiType: 'AWS' }, /^name: /],
      ['a name that is too long', { name: '🔑'.repeat(201), aiType: 'AWS' }, /^name: /],
      ['a control character', { name: 'a\u0000b', aiType: 'AWS' }, /^name: /],
      ['a line feed at the end', { name: 'a\n', aiType: 'AWS' }, /^name: /],
      ['a C1 control character', { name: 'a\u0085b', aiType: 'AWS' }, /^name: /],
      ['a lone surrogate', '{"name":"a\\ud800","aiType":"AWS"}', /^name: /],
      ['two wrong fields', { name: '', aiType: '' }, /name: .*; aiType: /],
      ['a list', [], /^body: must be a JSON object/],
      ['null', 'null', /^body: must be a JSON object/],
      ['broken JSON', '{"name":', /^body: must be valid JSON/],
      ['a polluted prototype', '{"__proto__":{"x":1},"name":"x","aiType":"AWS"}', /^body: /],
    ];
    it.each(badBodies)('refuses %s', async (_, body, message) => {
      const repoId = newRepoId();
      expectError(await create(repoId, body), 400, 'INVALID_INPUT', message);
      expect(await list(repoId)).toEqual([]);
    });

    it('refuses no body, and bytes that are no UTF-8', async () => {
      expectError(await service.ask('POST', keysOf('r'), { token: admin }), 400, 'INVALID_INPUT', /^body: /);
      const response = await fetch(service.url + keysOf('r'), {
        method: 'POST',
        headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
        body: Buffer.from('{"name":"\xff","aiType":"AWS"}', 'latin1'),
      });
      expect(response.status).toBe(400);
    });

    it('refuses another media type with 415 and a large body with 413', async () => {
      expectError(await create('r', 'x', { 'content-type': 'text/plain' }), 415, 'UNSUPPORTED_MEDIA_TYPE');
      expectError(await create('r', { name: 'x'.repeat(17_000), aiType: 'AWS' }), 413, 'BODY_TOO_LARGE');
    });

    it.each(['.', '..', 'a b', 'ä', 'a/b', 'x'.repeat(129), 'a%00'])('refuses the repository %j', async (repoId) => {
      const answer = await service.ask(
        'POST',
        keysOf(repoId.startsWith('.') ? repoId.replaceAll('.', '%2e') : encodeURIComponent(repoId)),
        {
          token: admin,
          body: { name: 'x', aiType: 'AWS' },
        },
      );
      // A URL parser resolves %2e and %2e%2e before it sends the request: no route has such a path.
      if (repoId.startsWith('.')) expect(answer.status).toBe(404);
      else expectError(answer, 400, 'INVALID_INPUT', /^repoId: must be 1 to 128/);
    });

    it('takes a repository of all that is allowed', async () => {
      const repoId = `${newRepoId()}${'Az09._~-'.repeat(16)}`.slice(0, 128);
      expect((await create(repoId)).status).toBe(201);
      expect(await list(repoId)).toHaveLength(1);
    });
  });

  describe('rename', () => {
    const rename = (repoId: string, id: unknown, request = {}) =>
      service.ask('PUT', `${keysOf(repoId)}/${id}`, { token: admin, ...request });

    it('changes the name at once', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      const { status, json } = await rename(repoId, id, { body: { name: ' find ' } });
      expect([status, json]).toEqual([200, { success: true, message: 'API key updated' }]);
      expect(await list(repoId)).toMatchObject([{ id, name: 'find' }]);
    });

    it('changes nothing without a body, without a name, and with the same name', async () => {
      const repoId = newRepoId();
      const created = await create(repoId);
      for (const request of [
        {},
        { body: {} },
        { body: { name: 'search' } },
        { body: '', headers: { 'content-type': 'application/json' } },
      ]) {
        const answer = await rename(repoId, created.json['id'], request);
        expect(answer.json).toEqual({ success: true, message: 'API key unchanged' });
        expect(answer.headers.get('keyledger-position')).toBe(created.headers.get('keyledger-position'));
      }
    });

    it('refuses a bad name', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      expectError(await rename(repoId, id, { body: { name: '' } }), 400, 'INVALID_INPUT', /^name: /);
      expectError(await rename(repoId, id, { body: { name: null } }), 400, 'INVALID_INPUT', /^name: /);
    });

    it.each(['nonsense', randomUUID(), 'x'.repeat(3000), '%20'])('does not find %s', async (id) => {
      expectError(await rename(newRepoId(), id, { body: { name: 'x' } }), 404, 'KEY_NOT_FOUND');
    });
  });

  describe('delete', () => {
    const remove = (repoId: string, id: unknown, headers = {}) =>
      service.ask('DELETE', `${keysOf(repoId)}/${id}`, { token: admin, headers });

    it('takes the key out of the list, and takes no second one', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      const { status, json } = await remove(repoId, id);
      expect([status, json]).toEqual([200, { success: true, message: 'API key deleted' }]);
      expect(await list(repoId)).toEqual([]);
      expectError(await remove(repoId, id), 404, 'KEY_NOT_FOUND');
      expectError(
        await service.ask('PUT', `${keysOf(repoId)}/${id}`, { token: admin, body: { name: 'x' } }),
        404,
        'KEY_NOT_FOUND',
      );
    });

    it('takes a JSON type with an empty body', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      expect((await remove(repoId, id, { 'content-type': 'application/json' })).status).toBe(200);
    });

    it('is not held up by a storm of renames, none of which is lost', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      const renames = Array.from({ length: 60 }, (_, n) =>
        service.ask('PUT', `${keysOf(repoId)}/${id}`, { token: admin, body: { name: `n${n}` } }),
      );
      expect((await remove(repoId, id)).status).toBe(200);
      for (const { status } of await Promise.all(renames)) expect([200, 404]).toContain(status);
      expect(await list(repoId)).toEqual([]);
    });

    it('does not find a key of another repository', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      expectError(await remove(newRepoId(), id), 404, 'KEY_NOT_FOUND');
      expect(await list(repoId)).toHaveLength(1);
    });

    it('asked for twice at the same time happens once', async () => {
      const repoId = newRepoId();
      const { id } = (await create(repoId)).json;
      const answers = await Promise.all([remove(repoId, id), remove(repoId, id), remove(repoId, id)]);
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 404, 404]);
    });
  });

  describe('Idempotency-Key', () => {
    const body = { name: 'search', aiType: 'OPENAI' };
    const once = (repoId: string, key: string, token = admin, sent: unknown = body) =>
      service.ask('POST', keysOf(repoId), { token, body: sent, headers: { 'idempotency-key': key } });

    it('gives a repeat the same answer, and makes one key', async () => {
      const repoId = newRepoId();
      const first = await once(repoId, 'a');
      const again = await once(repoId, 'a', admin, { aiType: 'OPENAI', name: ' search ', _extra: 1 });
      expect(again.status).toBe(201);
      expect(again.json).toEqual(first.json);
      expect(await list(repoId)).toHaveLength(1);
    });

    it('records who receives a secret again, and from where', async () => {
      const repoId = newRepoId();
      const first = await once(repoId, 'told');
      const replayAccesses = async () =>
        (await accessesOf(service.config)).filter(({ data }) => data.repoId === repoId);
      expect(await replayAccesses()).toEqual([]);
      const again = await once(repoId, 'told');
      expect(await replayAccesses()).toEqual([
        expect.objectContaining({
          data: {
            access: 'repeated-secret',
            repoId,
            apiKeyId: first.json['id'],
            query: {},
            from: '127.0.0.1',
            verified: true,
          },
          actor: { issuer: 'keyledger', subject: 'ada' },
          requestId: again.headers.get('x-request-id'),
        }),
      ]);
      expect((await once(repoId, 'told', admin, { name: 'other', aiType: 'OPENAI' })).status).toBe(422);
      expect(await replayAccesses()).toHaveLength(1);
    });

    it('gives concurrent repeats the same answer, and makes one key', async () => {
      const repoId = newRepoId();
      const answers = await Promise.all(Array.from({ length: 20 }, () => once(repoId, 'b')));
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
      expect(answers[0]?.status).toBe(201);
      expect(await list(repoId)).toHaveLength(1);
    });

    it('is of one caller and one repository', async () => {
      const [one, two] = [newRepoId(), newRepoId()];
      const bob = await service.token('admin', '*', 'bob');
      const ids = [await once(one, 'c'), await once(two, 'c'), await once(one, 'c', bob)].map(({ json }) => json['id']);
      expect(new Set(ids).size).toBe(3);
    });

    it('with another request is refused with 422', async () => {
      const repoId = newRepoId();
      await once(repoId, 'd');
      expectError(await once(repoId, 'd', admin, { ...body, aiType: 'AWS' }), 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('after deletion is refused with 409 and the id, without the secret', async () => {
      const repoId = newRepoId();
      const { id, secret } = (await once(repoId, 'e')).json;
      await service.ask('DELETE', `${keysOf(repoId)}/${id}`, { token: admin });
      const answer = await once(repoId, 'e');
      expectError(answer, 409, 'IDEMPOTENCY_KEY_USED');
      expect(answer.json['id']).toBe(id);
      expect(answer.text).not.toContain(secret);
    });

    it('is not used up by an answer that is not a success', async () => {
      const repoId = newRepoId();
      expectError(await once(repoId, 'f', admin, { name: '' }), 400, 'INVALID_INPUT');
      expect((await once(repoId, 'f')).status).toBe(201);
    });

    it('follows the authorisation', async () => {
      const repoId = newRepoId();
      await once(repoId, 'g');
      const viewer = await service.token('viewer', repoId);
      expectError(await once(repoId, 'g', viewer), 403, 'FORBIDDEN');
    });

    it.each(['', 'x'.repeat(256), 'ü'])('%j is refused', async (key) => {
      expectError(await once(newRepoId(), key), 400, 'INVALID_INPUT', /^idempotency-key: must be 1 to 255/);
    });
  });

  describe('Keyledger-Min-Position', () => {
    it('of the last change is there', async () => {
      const repoId = newRepoId();
      const position = (await create(repoId)).headers.get('keyledger-position') ?? '';
      expect(await list(repoId, { 'keyledger-min-position': position })).toHaveLength(1);
    });

    it('that is none, of another log, or to come, is refused', async () => {
      const ask = (position: string) =>
        service.ask('GET', keysOf('r'), { token: admin, headers: { 'keyledger-min-position': position } });
      const position = (await create(newRepoId())).headers.get('keyledger-position') ?? '';
      expectError(await ask('7'), 400, 'INVALID_INPUT');
      expectError(await ask(randomUUID() + position.slice(36)), 409, 'OTHER_LOG');
      const response = await ask(position.slice(0, 37) + '7f'.padEnd(position.length - 37, 'f'));
      expectError(response, 503, 'BEHIND');
      expect(response.headers.get('retry-after')).toBe('1');
    });
  });

  describe('access', () => {
    it('without a token is refused with 401', async () => {
      const answer = await service.ask('GET', keysOf('shop'));
      expectError(answer, 401, 'UNAUTHENTICATED');
      expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="keyledger"');
      for (const authorization of ['Bearer', 'Bearer x', `Basic ${admin}`, admin, `Bearer ${admin} x`]) {
        const { status } = await service.ask('GET', keysOf('shop'), { headers: { authorization } });
        expect([authorization, status]).toEqual([authorization, 401]);
      }
    });

    const mayList = ['viewer', 'admin', 'auditor'];
    it.each(['viewer', 'admin', 'auditor', 'verifier', 'replica', 'owner', 'constructor'])(
      'as %s is what the role may',
      async (role) => {
        const repoId = newRepoId();
        const token = await service.token(role, repoId);
        expect((await service.ask('GET', keysOf(repoId), { token })).status).toBe(mayList.includes(role) ? 200 : 403);
        const { status } = await service.ask('POST', keysOf(repoId), {
          token,
          body: { name: 'x', aiType: 'AWS' },
        });
        expect(status).toBe(role === 'admin' ? 201 : 403);
      },
    );

    it('ends at the repositories of the token, even for names that every object has', async () => {
      const token = await service.token('admin', 'mine');
      for (const repoId of ['yours', 'constructor', '__proto__', 'toString']) {
        expectError(await service.ask('GET', keysOf(repoId), { token }), 403, 'FORBIDDEN');
      }
    });

    it('is decided before the body is looked at', async () => {
      const token = await service.token('viewer', 'shop');
      expectError(await service.ask('POST', keysOf('shop'), { token, body: '{' }), 403, 'FORBIDDEN');
    });
  });

  describe('every answer', () => {
    it('carries the request id of the caller if it is one', async () => {
      const ask = async (id: string) =>
        (await service.ask('GET', '/nowhere', { headers: { 'x-request-id': id } })).headers.get('x-request-id');
      expect(await ask('abc-1.2_3')).toBe('abc-1.2_3');
      for (const bad of ['a b', 'x'.repeat(129), 'a"b']) expect(await ask(bad)).toMatch(/^[0-9a-f-]{36}$/);
    });

    it('to an unknown address is 404, and to another method 405 with what is allowed', async () => {
      expectError(await service.ask('GET', '/repo'), 404, 'NOT_FOUND');
      const answer = await service.ask('PATCH', keysOf('shop'));
      expectError(answer, 405, 'METHOD_NOT_ALLOWED');
      expect(answer.headers.get('allow')?.split(', ').sort()).toEqual(['GET', 'HEAD', 'POST']);
      const one = await service.ask('PATCH', `${keysOf('shop')}/${randomUUID()}`, { token: admin });
      expect(one.headers.get('allow')?.split(', ').sort()).toEqual(['DELETE', 'GET', 'HEAD', 'PUT']);
    });

    it('to an address that cannot be decoded is 400', async () => {
      expectError(await service.ask('GET', '/repo/%zz/ai/apikey', { token: admin }), 400, 'INVALID_INPUT');
    });

    it('has the security headers', async () => {
      const { headers } = await service.ask('GET', '/health/live');
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(headers.get('strict-transport-security')).toMatch(/max-age/);
      expect(headers.has('access-control-allow-origin')).toBe(false);
    });
  });
});
