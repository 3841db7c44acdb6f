import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { createClient } from '../src/sdk/client/index.js';
import {
  client,
  errorOf,
  key,
  proxy,
  repoId,
  runClientAndService,
  service,
  token,
} from './support/servers/client-and-service.js';
import { runService } from './support/servers/service.js';
import { json, page } from './support/servers/unreliable-proxy.js';

runClientAndService();

describe('the calls of the client', () => {
  it('create: the answer of the service and the position of the change', async () => {
    const created = await client().createRepoAiApiKey(repoId, key);
    const [answer] = proxy.answers;
    expect(created).toEqual({ ...answer?.json, position: answer?.headers.get('keyledger-position') });
    expect(created).toEqual({
      success: true,
      id: expect.any(String),
      key: expect.stringMatching(/^FB_AI_/),
      secret: expect.stringMatching(/^secret_/),
      position: expect.stringMatching(/:/),
    });
  });

  it('list: newest first, and no earlier than the position that is asked for', async () => {
    const { id: first } = await client().createRepoAiApiKey(repoId, key);
    const { id, position } = await client().createRepoAiApiKey(repoId, { name: 'draw', aiType: 'GOOGLE' });
    const list = await client().getRepoAiApiKeys(repoId, { minPosition: position ?? '' });
    expect(list).toEqual({ success: true, apiKeys: [expect.anything(), expect.anything()] });
    expect(list.apiKeys).toMatchObject([{ id, name: 'draw', aiType: 'GOOGLE', status: 'active' }, { id: first }]);
    expect(proxy.seen.at(-1)?.headers['keyledger-min-position']).toBe(position);
    expect(await errorOf(client().getRepoAiApiKeys(repoId, { minPosition: 'none' }))).toMatchObject({
      status: 400,
      code: 'INVALID_INPUT',
    });
  });

  it('update: renames, and without a name changes nothing', async () => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    const renamed = await client().updateRepoAiApiKey(repoId, id, { name: 'find' });
    expect(renamed).toEqual({
      success: true,
      message: 'API key updated',
      position: expect.stringMatching(/:/),
    });
    expect(await client().updateRepoAiApiKey(repoId, id, {})).toEqual({
      success: true,
      message: 'API key unchanged',
      position: renamed.position,
    });
    expect((await client().getRepoAiApiKeys(repoId)).apiKeys).toMatchObject([{ id, name: 'find' }]);
  });

  it('delete: once, and then there is no such key', async () => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    expect(await client().deleteRepoAiApiKey(repoId, id)).toEqual({
      success: true,
      message: 'API key deleted',
      position: expect.stringMatching(/:/),
    });
    expect((await client().getRepoAiApiKeys(repoId)).apiKeys).toEqual([]);
    expect(await errorOf(client().deleteRepoAiApiKey(repoId, id))).toMatchObject({ code: 'KEY_NOT_FOUND' });
  });

  it('say null for a position that the service does not tell', async () => {
    proxy.mishaps = [json(200, { success: true, message: 'API key updated' })];
    expect((await client().updateRepoAiApiKey(repoId, 'k', {})).position).toBeNull();
  });

  it('work below a path, with or without a slash at its end', async () => {
    proxy.mishaps = [json(200, { success: true, apiKeys: [] })];
    await client({ baseUrl: `${proxy.url}/keys//` }).getRepoAiApiKeys('shop');
    expect(proxy.seen[0]?.url).toBe('/keys/repo/shop/ai/apikey');
  });

  it('encode ids, so that they stay one segment of the path', async () => {
    const odd = 'a/b?c#d%2e é';
    expect(await errorOf(client().updateRepoAiApiKey(odd, '../x', {}))).toMatchObject({ status: 400 });
    expect(proxy.seen[0]?.url).toBe('/repo/a%2Fb%3Fc%23d%252e%20%C3%A9/ai/apikey/..%2Fx');
  });

  it.each(['', '.', '..'])('send nothing for the id "%s", which would be another address', async (id) => {
    await expect(client().getRepoAiApiKeys(id)).rejects.toThrow(TypeError);
    await expect(client().deleteRepoAiApiKey(repoId, id)).rejects.toThrow(TypeError);
    expect(proxy.seen).toEqual([]);
  });
});

describe('the token of the client', () => {
  it('is asked for before every try', async () => {
    const tokens = [token, await service.token('viewer', '*')];
    const remaining = [...tokens];
    proxy.mishaps = [page(502)];
    await client({ token: async () => remaining.shift() ?? '' }).getRepoAiApiKeys(repoId);
    expect(proxy.seen.map(({ headers }) => headers.authorization)).toEqual(tokens.map((t) => `Bearer ${t}`));
  });

  it('ends the call with what the function throws', async () => {
    const reason = new Error('logged out');
    const tokenFunction = () => Promise.reject(reason);
    await expect(client({ token: tokenFunction }).getRepoAiApiKeys(repoId)).rejects.toBe(reason);
    expect(proxy.seen).toEqual([]);
  });

  it.each(['', 'two\nlines', 'schlüssel'])('is not sent and not quoted if it cannot be one: %j', async (wrong) => {
    const error = await client({ token: wrong })
      .getRepoAiApiKeys(repoId)
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TypeError);
    if (wrong) expect(String(error)).not.toContain(wrong);
    expect(proxy.seen).toEqual([]);
  });
});

describe('an error of the client', () => {
  it('has every field of what the service says', async () => {
    const error = await errorOf(client().createRepoAiApiKey(repoId, { name: '', aiType: 'AWS' }));
    const [answer] = proxy.answers;
    expect(error).toMatchObject({
      name: 'KeyledgerClientError',
      status: 400,
      code: 'INVALID_INPUT',
      message: answer?.json['message'],
      requestId: answer?.headers.get('x-request-id'),
      id: null,
      idempotencyKey: proxy.seen[0]?.headers['idempotency-key'],
    });
    expect(error.message).toMatch(/^name: /);
    expect(error.requestId).toMatch(/./);
  });

  it('has the id of the key that an idempotency key made', async () => {
    const idempotencyKey = randomUUID();
    const { id } = await client().createRepoAiApiKey(repoId, key, { idempotencyKey });
    await client().deleteRepoAiApiKey(repoId, id);
    const again = client().createRepoAiApiKey(repoId, key, { idempotencyKey });
    expect(await errorOf(again)).toMatchObject({
      status: 409,
      code: 'IDEMPOTENCY_KEY_USED',
      id,
      idempotencyKey,
    });
  });

  it('tells no access from no token, and repeats neither', async () => {
    const viewer = await service.token('viewer', repoId);
    expect(await errorOf(client({ token: viewer }).createRepoAiApiKey(repoId, key))).toMatchObject({
      status: 403,
      code: 'FORBIDDEN',
    });
    expect(await errorOf(client({ token: 'expired' }).getRepoAiApiKeys(repoId))).toMatchObject({
      status: 401,
      code: 'UNAUTHENTICATED',
    });
    expect(proxy.seen).toHaveLength(2);
  });

  it('says how long the rate limit of the service asks to wait', async () => {
    const limited = await runService({ RATE_LIMIT: '3' });
    try {
      const options = { baseUrl: limited.url, token: await limited.token('admin'), attempts: 1 };
      const calls = [1, 2, 3, 4].map(() => createClient(options).getRepoAiApiKeys('shop'));
      const outcomes = await Promise.allSettled(calls);
      const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      expect(refused).toMatchObject([{ status: 429, code: 'RATE_LIMITED' }]);
      expect(refused[0].retryAfterMs).toBeGreaterThan(0);
      expect(refused[0].retryAfterMs).toBeLessThanOrEqual(60_000);
    } finally {
      await limited.stop();
    }
  });

  it('is made of a proxy page, too', async () => {
    proxy.mishaps = [page(502, { 'x-request-id': 'of-the-proxy' })];
    expect(await errorOf(client({ attempts: 1 }).getRepoAiApiKeys(repoId))).toMatchObject({
      status: 502,
      code: 'HTTP_502',
      message: 'The service answered 502 without a reason',
      requestId: 'of-the-proxy',
      id: null,
      idempotencyKey: null,
    });
  });

  it('takes nothing but text from an envelope that is not ours', async () => {
    proxy.mishaps = [json(500, { code: 7, message: { en: 'no' }, requestId: '' })];
    expect(await errorOf(client().getRepoAiApiKeys(repoId))).toMatchObject({
      status: 500,
      code: 'HTTP_500',
      message: 'The service answered 500 without a reason',
      requestId: null,
    });
  });

  it.each([
    ['a page', page(200)],
    ['JSON without success', json(200, { apiKeys: [] })],
    ['null', json(200, JSON.parse('null'))],
  ])('says so if success is answered with %s', async (_, mishap) => {
    proxy.mishaps = [mishap];
    expect(await errorOf(client().getRepoAiApiKeys(repoId))).toMatchObject({
      status: 200,
      code: 'BAD_ANSWER',
    });
    expect(proxy.seen).toHaveLength(1);
  });

  it('says so if the service is elsewhere, and does not go there with the token', async () => {
    proxy.mishaps = [page(302, { location: '/elsewhere' })];
    expect(await errorOf(client().createRepoAiApiKey(repoId, key))).toMatchObject({
      status: 302,
      code: 'REDIRECTED',
    });
    expect(proxy.seen.map(({ url }) => url)).toEqual([`/repo/${repoId}/ai/apikey`]);
  });

  it('has status 0 and the cause if nobody listens', async () => {
    const free = createServer();
    const port = await new Promise<number>((resolve) =>
      free.listen(0, '127.0.0.1', () => resolve((free.address() as { port: number }).port)),
    );
    await new Promise((resolve) => free.close(resolve));
    const nobody = client({ baseUrl: `http://127.0.0.1:${port}`, attempts: 1 });
    const error = await errorOf(nobody.createRepoAiApiKey(repoId, key, { idempotencyKey: 'mine' }));
    expect(error).toMatchObject({ status: 0, code: 'NETWORK', requestId: null, idempotencyKey: 'mine' });
    expect(error.cause).toMatchObject({ cause: { code: 'ECONNREFUSED' } });
  });
});

describe('a client', () => {
  it.each([
    '',
    'localhost:8080',
    '/keys',
    'ftp://keys.example',
    'https://keys.example/?a=b',
    'https://a.b/#c',
    'https://me:word@keys.example',
  ])('is not made for the address "%s"', (baseUrl) => expect(() => client({ baseUrl })).toThrow(TypeError));

  it.each([{ attempts: 0 }, { attempts: Number.NaN }, { attempts: 1.5 }, { timeoutMs: 0 }, { timeoutMs: 2 ** 31 }])(
    'is not made with %j',
    (options) => expect(() => client(options)).toThrow(RangeError),
  );

  it('needs no more than what browsers have', async () => {
    const tsc = ['node_modules/typescript/bin/tsc', '--ignoreConfig', '--noEmit', '--strict'];
    const browser = ['--target', 'es2022', '--module', 'preserve', '--lib', 'es2022,dom', '--types', ''];
    const compiled = promisify(execFile)(process.execPath, [...tsc, ...browser, 'src/sdk/client/index.ts']);
    await expect(compiled).resolves.toMatchObject({ stdout: '' });
  });
});
