import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { eventually } from './support/assertions/eventually.js';
import { combinations } from './support/servers/combinations.js';
import { type Json, type Running, runService } from './support/servers/service.js';

type Credential = { readonly key: string; readonly secret: string };

describe.each(combinations)('verification on $name', ({ start }) => {
  let service: Running;
  let admin: string;
  let verifier: string;
  let stopParts: () => Promise<void>;
  beforeAll(async () => {
    const parts = await start();
    stopParts = parts.stop;
    service = await runService(parts.settings);
    admin = await service.token('admin', '*');
    verifier = await service.token('verifier', '*');
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });

  const create = async (repoId: string = randomUUID()) => {
    const body = { name: 'search', aiType: 'OPENAI' };
    const path = `/repo/${repoId}/ai/apikey`;
    const { json, headers } = await service.ask('POST', path, { token: admin, body });
    const { id, key, secret } = json as Credential & { id: string };
    return {
      id,
      key,
      secret,
      repoId,
      path: `${path}/${id}`,
      position: headers.get('keyledger-position') ?? '',
    };
  };
  const verify = (body: unknown, token = verifier, headers = {}) =>
    service.ask('POST', '/verify', { token, body, headers });
  const credential = ({ key, secret }: Credential) => ({ key, secret });

  describe('POST /verify', () => {
    it('says whose key it is, and how far the log has been seen', async () => {
      const made = await create();
      const { status, json, headers } = await verify(credential(made));
      expect(status).toBe(200);
      expect(json).toEqual({
        success: true,
        valid: true,
        apiKey: { id: made.id, repoId: made.repoId, name: 'search', aiType: 'OPENAI', expiresAt: null },
        position: expect.stringMatching(/^[0-9a-f-]{36}:[0-9a-f]{16,32}$/),
      });
      expect((json['position'] as string) >= made.position).toBe(true);
      expect(Number(headers.get('keyledger-staleness'))).toBeLessThan(60);
      expect(headers.get('cache-control')).toBe('no-store');
    });

    it('gives the first reason that applies', async () => {
      const made = await create();
      const reasonOf = async (body: object, token?: string) => (await verify(body, token)).json['reason'];
      const here = { ...credential(made), repoId: made.repoId, aiType: 'OPENAI' };
      const elsewhere = { ...here, repoId: 'elsewhere', aiType: 'AWS' };
      expect((await verify(here)).json).toMatchObject({ valid: true });
      expect(await reasonOf({ ...here, aiType: 'AWS' })).toBe('WRONG_AI_TYPE');
      expect(await reasonOf(elsewhere)).toBe('WRONG_REPO');
      await service.ask('POST', `${made.path}/suspend`, { token: admin });
      expect(await reasonOf(elsewhere)).toBe('SUSPENDED');
      await service.ask('DELETE', made.path, { token: admin });
      expect(await reasonOf(elsewhere)).toBe('DELETED');
      expect(await reasonOf({ ...elsewhere, secret: makeSecret() })).toBe('BAD_SECRET');
      const stranger = await service.token('verifier', 'another');
      expect(await reasonOf(elsewhere, stranger)).toBe('UNKNOWN');
      expect(await reasonOf({ ...elsewhere, key: makeAccessKey() })).toBe('UNKNOWN');
      for (const malformed of [
        { ...elsewhere, key: `${made.key.slice(0, -1)}${made.key.endsWith('0') ? '1' : '0'}` },
        { ...elsewhere, secret: made.secret.slice(0, -1) },
        { ...elsewhere, key: made.secret, secret: made.key },
        { ...elsewhere, key: '' },
      ]) {
        expect(await reasonOf(malformed)).toBe('MALFORMED');
      }
    });

    it('is for those who may verify: an exact repository goes before *', async () => {
      const made = await create('forbidden');
      for (const role of ['viewer', 'admin', 'auditor']) {
        expect((await verify(credential(made), await service.token(role, '*'))).status).toBe(403);
      }
      expect((await service.ask('POST', '/verify', { body: credential(made) })).status).toBe(401);
      expect((await verify(credential(made), await service.token('replica', '*'))).json['valid']).toBe(true);
      expect((await verify(credential(made), await service.token('verifier', 'forbidden'))).json['valid']).toBe(true);
    });

    it.each([
      ['no body', undefined],
      ['no secret', { key: 'x' }],
      ['a key that is no text', { key: 1, secret: 'x' }],
      ['an unknown provider', { key: 'x', secret: 'y', aiType: 'NOBODY' }],
    ])('with %s is 400', async (_, body) => {
      const { status, json, headers } = await verify(body);
      expect([status, json['code']]).toEqual([400, 'INVALID_INPUT']);
      expect(headers.get('keyledger-staleness')).toMatch(/^\d+\.\d$/);
    });

    it('waits for the position of a revocation, and never says valid once it has passed it', async () => {
      const made = await create();
      const { headers } = await service.ask('DELETE', made.path, { token: admin });
      const minimum = { 'keyledger-min-position': headers.get('keyledger-position') ?? '' };
      expect((await verify(credential(made), verifier, minimum)).json).toMatchObject({ reason: 'DELETED' });
      const at = minimum['keyledger-min-position'];
      const beyond = { 'keyledger-min-position': `${at.slice(0, 37)}${'f'.repeat(at.length - 37)}` };
      expect((await verify(credential(made), verifier, beyond)).json).toMatchObject({ code: 'BEHIND' });
      const other = { 'keyledger-min-position': `${randomUUID()}${at.slice(36)}` };
      expect((await verify(credential(made), verifier, other)).json).toMatchObject({ code: 'OTHER_LOG' });
    });
  });

  describe('/verify/forward', () => {
    const forward = (headers: Record<string, string>, path = '/verify/forward', method = 'GET') =>
      service.ask(method, path, { headers });
    const ways = ({ key, secret }: Credential): [string, Record<string, string>][] => [
      ['Basic', { authorization: `Basic ${Buffer.from(`${key}:${secret}`).toString('base64')}` }],
      ['Bearer', { authorization: `bearer ${key}.${secret}` }],
      ['X-Api-Key', { 'x-api-key': key, 'x-api-secret': secret }],
      ['X-Api-Key beside a token of the application', { ...ours(key, secret), authorization: 'Bearer eyJ.a.b' }],
    ];
    const ours = (key: string, secret: string) => ({ 'x-api-key': key, 'x-api-secret': secret });

    it('takes the credential in each form, and says whose it is in headers', async () => {
      const made = await create();
      for (const [way, headers] of ways(made)) {
        const answer = await forward(headers);
        expect([way, answer.status, answer.text]).toEqual([way, 200, '']);
        expect(answer.headers.get('keyledger-key-id')).toBe(made.id);
        expect(answer.headers.get('keyledger-repo-id')).toBe(made.repoId);
        expect(answer.headers.get('keyledger-ai-type')).toBe('OPENAI');
        expect(answer.headers.get('keyledger-staleness')).toMatch(/^\d+\.\d$/);
      }
    });

    it('answers every request of a proxy: any method, a longer path, a body', async () => {
      const made = await create();
      const headers = { ...ours(made.key, made.secret), 'content-type': 'text/plain' };
      const webDav = ['PROPFIND', 'PROPPATCH', 'REPORT', 'MKCOL', 'LOCK', 'UNLOCK', 'SEARCH', 'PURGE', 'COPY'];
      for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', ...webDav]) {
        const body = ['GET', 'HEAD'].includes(method) ? {} : { body: 'anything at all' };
        for (const path of ['/verify/forward', '/verify/forward/v1/models?stream=true']) {
          expect([method, path, (await service.ask(method, path, { headers, ...body })).status]).toEqual([
            method,
            path,
            200,
          ]);
        }
      }
    });

    it("reads no query behind the path that docs/how-to/gateways.md gives Envoy, the client's root included", async () => {
      const [, prefix = ''] = /path_prefix: (\S+)/.exec(readFileSync('docs/how-to/gateways.md', 'utf8')) ?? [];
      const made = await create();
      for (const path of ['/?repoId=other&x=1', '/v1/models?a=b', '//?a=b', '/'])
        expect([path, (await forward(ours(made.key, made.secret), prefix + path)).status]).toEqual([path, 200]);
    });

    it("reads no query behind its path: it is the application's", async () => {
      const made = await create();
      const query = '?aiType=nobody&repoId=elsewhere&repoId=again';
      const headers = ours(made.key, made.secret);
      expect((await forward(headers, `/verify/forward/v1/models${query}`)).status).toBe(200);
      expect((await forward(headers, `/verify/forward${query}`)).status).toBe(400);
    });

    it('is 401 without a valid credential, and discloses nothing more without the secret', async () => {
      const made = await create();
      for (const headers of [
        {},
        { authorization: 'Basic' },
        { authorization: 'Digest x' },
        { authorization: 'Basic !!!' },
        { authorization: `Bearer ${made.key}` },
        { 'x-api-key': made.key },
        ours(made.key, makeSecret()),
        ours(makeAccessKey(), made.secret),
      ]) {
        const { status, json, headers: answered } = await forward(headers as Record<string, string>);
        expect([status, json['code'], json['reason']]).toEqual([401, 'BAD_CREDENTIAL', undefined]);
        expect(answered.get('www-authenticate')).toMatch(/^Bearer/);
      }
    });

    it('is 403 for a key that may not be used here now, 401 for a deleted one, and says why', async () => {
      const made = await create();
      const outcome = async (path?: string) => {
        const { status, json } = await forward(ours(made.key, made.secret), path);
        return [status, json['code'], json['reason']];
      };
      expect(await outcome('/verify/forward?aiType=AWS')).toEqual([403, 'KEY_REFUSED', 'WRONG_AI_TYPE']);
      expect(await outcome('/verify/forward?repoId=other')).toEqual([403, 'KEY_REFUSED', 'WRONG_REPO']);
      await service.ask('POST', `${made.path}/suspend`, { token: admin });
      expect(await outcome()).toEqual([403, 'KEY_REFUSED', 'SUSPENDED']);
      await service.ask('DELETE', made.path, { token: admin });
      expect(await outcome()).toEqual([401, 'BAD_CREDENTIAL', 'DELETED']);
    });
  });

  it('is seen in lists as the minute of the last use', async () => {
    const made = await create();
    const other = await create(made.repoId);
    const before = Date.now() - 60_000;
    expect((await verify({ ...credential(other), secret: makeSecret() })).json['valid']).toBe(false);
    expect((await verify(credential(made))).json['valid']).toBe(true);
    const list = async () =>
      (await service.ask('GET', `/repo/${made.repoId}/ai/apikey`, { token: admin })).json['apiKeys'] as Json[];
    const [unused, used] = await list();
    expect(unused).not.toHaveProperty('lastUsedAt');
    expect(used?.['lastUsedAt']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000Z$/);
    const at = Date.parse(used?.['lastUsedAt'] as string);
    expect(at > before && at <= Date.now()).toBe(true);
  });
});

describe('an instance', () => {
  it('that cannot reach the read model verifies all the same', async () => {
    const service = await runService({ READ_MODEL_URL: 'redis://127.0.0.1:1' }, 'no lists');
    try {
      const admin = await service.token('admin');
      const body = { name: 'x', aiType: 'AWS' };
      const { json } = await service.ask('POST', '/repo/shop/ai/apikey', { token: admin, body });
      const { key, secret } = json as Credential;
      expect((await service.ask('GET', '/repo/shop/ai/apikey', { token: admin })).status).toBe(503);
      const token = await service.token('verifier');
      const result = await service.ask('POST', '/verify', { token, body: { key, secret } });
      expect(result.json).toMatchObject({ valid: true });
    } finally {
      await service.stop();
    }
  });

  it('with VERIFY_FORWARD=false has no way to verify without a token', async () => {
    const service = await runService({ VERIFY_FORWARD: 'false' });
    try {
      for (const path of ['/verify/forward', '/verify/forward/x']) {
        expect((await service.ask('GET', path)).status).toBe(404);
      }
      expect((await service.ask('GET', '/openapi.json')).text).not.toContain('/verify/forward');
    } finally {
      await service.stop();
    }
  });

  it('with CORS_ORIGIN lets no preflight through a proxy without a valid credential', async () => {
    const origin = 'https://console.example';
    const service = await runService({ CORS_ORIGIN: origin });
    try {
      const headers = { origin, 'access-control-request-method': 'POST' };
      for (const path of ['/verify/forward', '/verify/forward/v1/models']) {
        expect((await service.ask('OPTIONS', path, { headers })).status).toBe(401);
        expect((await service.ask('OPTIONS', path)).status).toBe(401);
      }
      expect((await service.ask('OPTIONS', '/verify', { headers })).status).toBe(204);
    } finally {
      await service.stop();
    }
  });

  it('is not held to RATE_LIMIT where it verifies, and is where it revokes', async () => {
    const service = await runService({ RATE_LIMIT: '5' });
    try {
      const token = await service.token('verifier');
      const body = { key: 'x', secret: 'y' };
      for (let n = 0; n < 10; n++) {
        expect((await service.ask('POST', '/verify', { token, body })).status).toBe(200);
        expect((await service.ask('GET', '/verify/forward')).status).toBe(401);
      }
      await eventually(async () => (await service.ask('POST', '/revoke', { body })).status === 429);
    } finally {
      await service.stop();
    }
  });
});
