import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  type Client,
  type ClientOptions,
  createClient,
  KeyledgerClientError,
  retryDelay,
} from '../src/client/index.js';
import { ask, type Running, runService } from './service.js';

/** What a proxy in front of the service does with the next requests; after the last of them it passes on. */
type Mishap = (
  request: IncomingMessage,
  response: ServerResponse,
  pass: () => Promise<void>,
) => Promise<void> | void;

let service: Running;
let proxy: Server;
let token: string;
let mishaps: Mishap[] = [];
let passed: string[] = [];
let repoId: string;

beforeAll(async () => {
  service = await runService({ RATE_LIMIT: '0' });
  token = await service.token('admin', '*');
  proxy = createServer(async (request, response) => {
    let body = '';
    for await (const text of request.setEncoding('utf8')) body += text;
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(
        ([name]) => !['host', 'connection', 'content-length'].includes(name),
      ),
    );
    let answer: Awaited<ReturnType<typeof ask>> | undefined;
    const pass = async () => {
      passed.push(request.method ?? '');
      answer = await ask(service.url + request.url, request.method ?? '', {
        headers: headers as Record<string, string>,
        ...(body ? { body } : {}),
      });
    };
    await (mishaps.shift() ?? pass)(request, response, pass);
    if (!answer || response.destroyed || response.writableEnded) return;
    for (const [name, value] of answer.headers)
      if (!/^(content-length|connection|keep-alive|transfer-encoding)$/.test(name))
        response.setHeader(name, value);
    response.writeHead(answer.status).end(answer.text);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await service.stop();
});
beforeEach(() => {
  repoId = randomUUID();
  passed = [];
});
afterEach(() => expect(mishaps.splice(0)).toEqual([]));

const client = (options: Partial<ClientOptions> = {}): Client =>
  createClient({ baseUrl: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/`, token, ...options });
const key = { name: 'search', aiType: 'OPENAI' } as const;
const listed = async () => (await client().getRepoAiApiKeys(repoId)).apiKeys;

const answerLost: Mishap = async (_, response, pass) => {
  await pass();
  response.destroy();
};
const cutBefore: Mishap = (_, response) => void response.destroy();
const says =
  (status: number, headers = {}, body = '<html>Bad gateway</html>'): Mishap =>
  (_, response) =>
    void response.writeHead(status, headers).end(body);

describe('the client', () => {
  it('creates, lists, renames and deletes', async () => {
    const created = await client().createRepoAiApiKey(repoId, key);
    expect(created).toEqual({
      success: true,
      id: expect.any(String),
      key: expect.stringMatching(/^FB_AI_/),
      secret: expect.stringMatching(/^secret_/),
      position: expect.stringMatching(/:/),
    });
    const renamed = await client().updateRepoAiApiKey(repoId, created.id, { name: 'find' });
    expect(renamed).toMatchObject({ success: true, message: 'API key updated' });
    const options = renamed.position ? { minPosition: renamed.position } : {};
    expect((await client().getRepoAiApiKeys(repoId, options)).apiKeys).toMatchObject([
      { id: created.id, name: 'find' },
    ]);
    expect(await client().deleteRepoAiApiKey(repoId, created.id)).toMatchObject({ success: true });
    expect(await listed()).toEqual([]);
  });

  it('gives every field of an error, and does not repeat what cannot help', async () => {
    const error = await client()
      .createRepoAiApiKey(repoId, { name: '', aiType: 'AWS' })
      .catch((reason) => reason);
    expect(error).toBeInstanceOf(KeyledgerClientError);
    expect(error).toMatchObject({
      status: 400,
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/^name: /),
      requestId: expect.any(String),
      id: null,
    });
    expect(passed).toEqual(['POST']);
    await expect(client({ token: 'x' }).getRepoAiApiKeys(repoId)).rejects.toMatchObject({
      status: 401,
      code: 'UNAUTHENTICATED',
    });
    await expect(client().deleteRepoAiApiKey(repoId, 'a/b')).rejects.toMatchObject({
      status: 404,
      code: 'KEY_NOT_FOUND',
    });
    await expect(client().getRepoAiApiKeys('a b')).rejects.toMatchObject({ status: 400 });
  });

  it('asks for a token before every try', async () => {
    let asked = 0;
    mishaps = [cutBefore];
    const giveToken = async () => {
      asked++;
      return token;
    };
    await client({ token: giveToken }).getRepoAiApiKeys(repoId);
    expect(asked).toBe(2);
  });

  it('makes one key of one idempotency key, and says which key stands in the way', async () => {
    const options = { idempotencyKey: randomUUID() };
    const [one, two] = await Promise.all([1, 2].map(() => client().createRepoAiApiKey(repoId, key, options)));
    expect(two).toEqual(one);
    await client().deleteRepoAiApiKey(repoId, one?.id ?? '');
    await expect(client().createRepoAiApiKey(repoId, key, options)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_KEY_USED',
      id: one?.id,
    });
  });
});

describe('a retry', () => {
  it.each<[string, Mishap[]]>([
    ['the answer was lost', [answerLost, answerLost, answerLost]],
    ['the connection was cut', [cutBefore]],
    ['the answer was lost and then refused', [answerLost, says(503, { 'retry-after': '0' }, '{}')]],
    ['a proxy was in the way', [says(502), says(504)]],
    ['there were too many requests', [says(429, { 'retry-after': '0' })]],
    ['an answer of success was no JSON', [says(200)]],
  ])('after %s creates one key, and gives its secret', async (_, order) => {
    mishaps = [...order];
    const created = await client().createRepoAiApiKey(repoId, key);
    expect(await listed()).toMatchObject([{ id: created.id, key: created.key }]);
  });

  it('after a silence that lasts too long creates one key', async () => {
    mishaps = [async (_request, _response, pass) => pass().then(() => new Promise(() => undefined))];
    const created = await client({ timeoutMs: 300 }).createRepoAiApiKey(repoId, key);
    expect(await listed()).toMatchObject([{ id: created.id }]);
  });

  it('of a deletion whose answer was lost finds it done', async () => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    mishaps = [answerLost];
    expect(await client().deleteRepoAiApiKey(repoId, id)).toMatchObject({ success: true });
    expect(await listed()).toEqual([]);
    mishaps = [says(429, { 'retry-after': '0' })];
    await expect(client().deleteRepoAiApiKey(repoId, id)).rejects.toMatchObject({ status: 404 });
  });

  it('ends after so many tries, with the last error', async () => {
    mishaps = [cutBefore, cutBefore];
    await expect(client({ attempts: 2 }).getRepoAiApiKeys(repoId)).rejects.toMatchObject({
      status: 0,
      code: 'NETWORK',
      cause: expect.anything(),
    });
    mishaps = [says(502), says(502)];
    await expect(client({ attempts: 2 }).getRepoAiApiKeys(repoId)).rejects.toMatchObject({
      status: 502,
      code: 'HTTP_502',
      requestId: null,
    });
  });

  it('ends at once when the caller gives up', async () => {
    const stop = new AbortController();
    mishaps = [
      (_, response) => {
        response
          .writeHead(503, { 'retry-after': '10' })
          .end('{}', () => setImmediate(() => stop.abort(new Error('enough'))));
      },
    ];
    await expect(client().getRepoAiApiKeys(repoId, { signal: stop.signal })).rejects.toThrow('enough');
    await expect(client().getRepoAiApiKeys(repoId, { signal: stop.signal })).rejects.toThrow('enough');
    expect(passed).toEqual([]);
  });

  it('waits as long as it was told to, or for a random part of a growing limit, and never over ten seconds', () => {
    expect(retryDelay(1, '2', 0.5)).toBe(2000);
    expect(retryDelay(1, '3600', 0.5)).toBe(10_000);
    const now = Date.parse('2026-01-01T00:00:00Z');
    expect(retryDelay(1, 'Thu, 01 Jan 2026 00:00:03 GMT', 0.5, now)).toBe(3000);
    expect(retryDelay(1, 'Wed, 31 Dec 2025 00:00:00 GMT', 0.5, now)).toBe(0);
    expect([1, 2, 3].map((attempt) => retryDelay(attempt, null, 1))).toEqual([200, 400, 800]);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.option(fc.string()),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (attempt, header, random) => {
          const delay = retryDelay(attempt, header, random);
          expect(delay).toBeGreaterThanOrEqual(0);
          expect(delay).toBeLessThanOrEqual(10_000);
        },
      ),
    );
  });
});
