import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type OpenApi, type Operation, operationsOf } from './support/http/requests-from-openapi.js';
import { type Ask, type Json, type Running, runService } from './support/servers/service.js';

/** A misspelt member that the service silently drops has the opposite effect of what its author meant. */

let service: Running;
let admin: string;
let document: OpenApi;
let operations: Operation[];
beforeAll(async () => {
  service = await runService({ RATE_LIMIT: '0' });
  admin = await service.token('admin', '*');
  document = (await service.ask('GET', '/openapi.json')).json as unknown as OpenApi;
  operations = operationsOf(document);
});
afterAll(() => service.stop());

const refusal = async (method: string, path: string, request: Ask) => {
  const { status, json } = await service.ask(method, path, request);
  expect([status, json['code']]).toEqual([400, 'INVALID_INPUT']);
  return json['message'] as string;
};
const create = async (body: object, repoId = randomUUID()) => {
  const path = `/repo/${repoId}/ai/apikey`;
  return { path, answer: await service.ask('POST', path, { token: admin, body }) };
};
const good = { name: 'search', aiType: 'AWS' };

describe('an unknown member', () => {
  it('of a creation makes no key, and the nearest known one is named', async () => {
    const { path, answer } = await create({ ...good, expires_at: '2030-01-01T00:00:00Z' });
    expect([answer.status, answer.json['message']]).toEqual([
      400,
      'expires_at: is not a member of the body; did you mean "expiresAt"?',
    ]);
    expect((await service.ask('GET', path, { token: admin })).json['apiKeys']).toEqual([]);
  });

  it('of a rotation leaves the secret as it is', async () => {
    const { path, answer } = await create(good);
    const { id, key, secret } = answer.json;
    const body = { overlap_seconds: 3600 };
    expect(await refusal('POST', `${path}/${id}/rotate`, { token: admin, body })).toContain('overlapSeconds');
    const token = await service.token('verifier', '*');
    expect((await service.ask('POST', '/verify', { token, body: { key, secret } })).json['valid']).toBe(true);
  });

  it('of a webhook registers none', async () => {
    const path = `/repo/${randomUUID()}/webhook`;
    const body = { url: 'https://hooks.example/x', type: ['ApiKeyCreated'] };
    expect(await refusal('POST', path, { token: admin, body })).toContain('did you mean "types"?');
    expect((await service.ask('GET', path, { token: admin })).json['webhooks']).toEqual([]);
  });

  it('of a verification is an error', async () => {
    const { answer } = await create(good);
    const { key, secret } = answer.json;
    const token = await service.token('verifier', '*');
    const message = await refusal('POST', '/verify', { token, body: { key, secret, repo: 'shop' } });
    expect(message).toContain('did you mean "repoId"?');
  });

  it('of a deletion deletes nothing', async () => {
    const { path, answer } = await create(good);
    const { id } = answer.json;
    expect(await refusal('DELETE', `${path}/${id}`, { token: admin, body: { dryRun: true } })).toBe(
      'dryRun: is not a member of the body; this call takes none',
    );
    await refusal('DELETE', `${path}/${id}?dryRun=true`, { token: admin });
    for (const body of ['[1]', '"x"', '7', 'true'])
      expect(await refusal('DELETE', `${path}/${id}`, { token: admin, body })).toBe('body: this call takes none');
    expect((await service.ask('GET', `${path}/${id}`, { token: admin })).status).toBe(200);
  });

  it('is named without what could forge a line, and not in full length', async () => {
    const path = `/repo/${randomUUID()}/ai/apikey`;
    const body = { ...good, [`\u001b[31m${'x'.repeat(5000)}`]: 1 };
    const message = await refusal('POST', path, { token: admin, body });
    expect(message).toMatch(/^"\\u001b\[31mx{1,59}": is not a member/);
  });

  it('that begins with x- or _ is for somebody else', async () => {
    const { answer, path } = await create({ ...good, 'x-trace': 'a', X_trace: undefined, _internal: [1] });
    expect(answer.status).toBe(201);
    const query = '?x-amz-date=1&_=1700000000';
    expect((await service.ask('GET', path + query, { token: admin })).status).toBe(200);
  });
});

describe('every documented call', () => {
  const targetOf = ({ path }: Operation) => path.replace(/\{repoId\}/, 'shop').replace(/\{\w+\}/, randomUUID());
  const tokens: Record<string, string> = {};
  const tokenFor = async (id: string) => {
    const role = ['verifyApiKey', 'getReplica', 'reportLastUsed'].includes(id) ? 'replica' : 'admin';
    tokens[role] ??= await service.token(role, '*');
    return tokens[role];
  };

  it('refuses an unknown parameter of its query', async () => {
    for (const operation of operations) {
      const { id, method } = operation;
      const token = await tokenFor(id);
      const { status, json } = await service.ask(method, `${targetOf(operation)}?unheardOf=1`, { token });
      expect([id, status]).toEqual([id, 400]);
      if (id === 'verifyForwardedRequest') continue;
      expect([id, json['message']]).toEqual([id, expect.stringContaining('unheardOf: is not a query parameter')]);
    }
  });

  it('refuses an unknown member of its body, and the document says that it takes no others', async () => {
    for (const operation of operations.filter(({ method }) => !['GET', 'HEAD'].includes(method))) {
      const { id, method, body: schema } = operation;
      const body = { unheardOf: 1 };
      const { status, json } = await service.ask(method, targetOf(operation), {
        token: await tokenFor(id),
        body,
      });
      expect([id, status, json['message']]).toEqual([id, 400, expect.stringContaining('unheardOf: is not a member')]);
      if (schema)
        expect([id, JSON.stringify(schema)]).toEqual([id, expect.stringContaining('"additionalProperties":false')]);
    }
  });
});

describe('GET /verify/forward', () => {
  type Made = { key: string; secret: string; repoId: string };
  const made = async (): Promise<Made> => {
    const repoId = randomUUID();
    return { ...((await create(good, repoId)).answer.json as Json & Made), repoId };
  };
  const forward = async (path: string, { key, secret }: Made, more: Record<string, string> = {}, method = 'GET') => {
    const headers = { 'x-api-key': key, 'x-api-secret': secret, ...more };
    const { status, json } = await service.ask(method, path, { headers });
    return [status, json['reason']];
  };

  it.each(['/verify/forward', '/verify/forward/'])(
    '%s refuses a parameter that is unknown, doubled or empty, so that a proxy denies',
    async (path) => {
      const key = await made();
      expect(await forward(`${path}?repoId=${key.repoId}&aiType=AWS`, key)).toEqual([200, undefined]);
      expect(await forward(`${path}?`, key)).toEqual([200, undefined]);
      for (const query of [
        'repoid=shop',
        'repo_id=shop',
        'aitype=AWS',
        'x-repo=shop',
        '_repo=shop',
        'repoId=',
        'repoId',
        `repoId=${key.repoId}&repoId=${key.repoId}`,
        'aiType=',
        'aiType=AWS&aiType=AWS',
        'aiType=aws',
      ]) {
        for (const method of ['GET', 'POST', 'PROPFIND']) {
          expect([query, method, await forward(`${path}?${query}`, key, {}, method)]).toEqual([
            query,
            method,
            [400, undefined],
          ]);
        }
      }
    },
  );

  it.each(['/verify/forward', '/verify/forward/', '/verify/forward/v1/models?repoId=own&repoId=twice'])(
    '%s is restricted by headers of the proxy, which count beside the query',
    async (path) => {
      const key = await made();
      const [plain = '', query] = path.split('?');
      const target = query === undefined ? plain : path;
      const repo = (value: string) => ({ 'keyledger-require-repo-id': value });
      const provider = (value: string) => ({ 'keyledger-require-ai-type': value });
      expect(await forward(target, key, { ...repo(key.repoId), ...provider('AWS') })).toEqual([200, undefined]);
      expect(await forward(target, key, repo('other'))).toEqual([403, 'WRONG_REPO']);
      expect(await forward(target, key, provider('OPENAI'))).toEqual([403, 'WRONG_AI_TYPE']);
      for (const headers of [repo(''), repo('shop, shop'), repo('a/b'), provider(''), provider('AWS, AWS')])
        expect([headers, await forward(target, key, headers)]).toEqual([headers, [400, undefined]]);
    },
  );

  it('lets no header widen what the query restricts', async () => {
    const key = await made();
    const headers = { 'keyledger-require-repo-id': key.repoId };
    expect(await forward('/verify/forward?repoId=other', key, headers)).toEqual([403, 'WRONG_REPO']);
  });

  it('takes Authorization where X-Api-Key is empty', async () => {
    const { key, secret } = await made();
    const headers = { authorization: `Bearer ${key}.${secret}`, 'x-api-key': '' };
    expect((await service.ask('GET', '/verify/forward', { headers })).status).toBe(200);
  });
});
