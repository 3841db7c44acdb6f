import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import type { CallOptions, Client, NewApiKey } from '../src/sdk/client/index.js';
import {
  client,
  errorOf,
  key,
  proxy,
  requests,
  runClientAndService,
  token,
} from './support/servers/client-and-service.js';
import { answerHalved, cut, json, type Mishap, page } from './support/servers/unreliable-proxy.js';

runClientAndService();

const SECRET = 'secret_never-told';
const credential = { key: 'FB_AI_x', secret: SECRET };
const issued = { success: true, id: 'k', ...credential };
const done = { success: true, message: 'Done' };
const unavailable = json(503, { success: false, code: 'UNAVAILABLE' }, { 'retry-after': '0' });
const halved =
  (answer: object): Mishap =>
  (response, _, stream) => {
    const pass = async () => {
      const text = JSON.stringify(answer);
      return { status: 200, headers: new Headers(), text, json: { ...answer } };
    };
    return answerHalved(response, pass, stream);
  };

type Case = {
  readonly make: (client: Client, options?: CallOptions) => Promise<unknown>;
  readonly request: string;
  readonly body: object | undefined;
  readonly answer: object;
};
const keyPath = '/repo/shop/ai/apikey/k';
/** The calls that test/client.test.ts does not cover, with the request and the answer of each. */
const CALLS: Readonly<Record<string, Case>> = {
  get: {
    make: (c, options) => c.getRepoAiApiKey('shop', 'k', options),
    request: `GET ${keyPath}`,
    body: undefined,
    answer: { success: true, apiKey: { id: 'k' } },
  },
  rotate: {
    make: (c, options) => c.rotateRepoAiApiKey('shop', 'k', { overlapSeconds: 60 }, options),
    request: `POST ${keyPath}/rotate`,
    body: { overlapSeconds: 60 },
    answer: issued,
  },
  suspend: {
    make: (c, options) => c.suspendRepoAiApiKey('shop', 'k', { reason: 'looked odd' }, options),
    request: `POST ${keyPath}/suspend`,
    body: { reason: 'looked odd' },
    answer: done,
  },
  resume: {
    make: (c, options) => c.resumeRepoAiApiKey('shop', 'k', options),
    request: `POST ${keyPath}/resume`,
    body: undefined,
    answer: done,
  },
  verify: {
    make: (c, options) => c.verifyApiKey({ ...credential, repoId: 'shop', aiType: 'AWS' }, options),
    request: 'POST /verify',
    body: { ...credential, repoId: 'shop', aiType: 'AWS' },
    answer: { success: true, valid: false, reason: 'WRONG_AI_TYPE' },
  },
  revoke: {
    make: (c, options) => c.revokeLeakedApiKey(credential, options),
    request: 'POST /revoke',
    body: credential,
    answer: done,
  },
};
const calls = Object.entries(CALLS);

const keysSent = () => proxy.seen.map(({ headers }) => headers['idempotency-key']);

describe('each call', () => {
  it.each(calls)('%s sends its request and gives the answer', async (name, { make, request, body, answer }) => {
    proxy.mishaps = [json(200, answer)];
    expect(await make(client())).toMatchObject(answer);
    expect(requests()).toEqual([[request, body]]);
    const { headers } = proxy.seen[0] as (typeof proxy.seen)[number];
    expect(headers['content-type']).toBe(body && 'application/json');
    expect(headers.authorization).toBe(name === 'revoke' ? undefined : `Bearer ${token}`);
    expect(headers['idempotency-key'] !== undefined).toBe(name === 'rotate');
    expect(headers['keyledger-min-position']).toBeUndefined();
  });

  it.each(calls)('%s is made again, the same, after what passes', async (_, { make, request, body, answer }) => {
    proxy.mishaps = [cut, halved(answer), unavailable, json(200, answer)];
    expect(await make(client())).toMatchObject(answer);
    expect(requests()).toEqual(Array.from({ length: 4 }, () => [request, body]));
    expect(new Set(keysSent()).size).toBe(1);
  });

  it.each(calls)('%s rejects once with what the service says', async (_, { make }) => {
    const says = { success: false, code: 'KEY_NOT_FOUND', message: 'No such API key', requestId: 'r' };
    proxy.mishaps = [json(404, says)];
    const error = await errorOf(make(client()));
    expect(error).toMatchObject({
      status: 404,
      code: 'KEY_NOT_FOUND',
      message: 'No such API key',
      requestId: 'r',
      idempotencyKey: keysSent()[0] ?? null,
    });
    expect(proxy.seen).toHaveLength(1);
  });

  it.each(calls)('%s ends with the signal of the caller', async (_, { make }) => {
    const reason = new Error('enough');
    await expect(make(client(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(proxy.seen).toEqual([]);
    const stop = new AbortController();
    proxy.mishaps = [() => stop.abort(reason)];
    await expect(make(client(), { signal: stop.signal })).rejects.toBe(reason);
    expect(proxy.seen).toHaveLength(1);
  });

  const create = (c: Client) => c.createRepoAiApiKey('shop', key);
  const failures: [string, Mishap][] = [
    ['no answer', cut],
    ['half an answer with a secret', halved(issued)],
    ['an answer with a secret that is none of ours', json(200, { ...issued, success: 'yes' })],
    ['a redirect', page(307, { location: '/elsewhere' })],
    ['a failure without a message', json(500, { ...issued, success: false })],
  ];
  it.each(failures)('has no secret in the error of %s', async (_, failure) => {
    for (const { make } of [...Object.values(CALLS), { make: create }]) {
      proxy.mishaps = [failure];
      const error = await errorOf(make(client({ attempts: 1 })));
      expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(SECRET);
      expect(JSON.stringify(error)).not.toContain(SECRET);
    }
  });
});

describe('a key that expires', () => {
  const instant = '2030-01-02T03:04:05.000Z';
  const times: [string, NewApiKey['expiresAt'], object][] = [
    ['text as it is', '2030-01-02T03:04:05+02:00', { expiresAt: '2030-01-02T03:04:05+02:00' }],
    ['a Date as text', new Date(instant), { expiresAt: instant }],
    ['null as null', null, { expiresAt: null }],
    ['nothing as nothing', undefined, {}],
  ];
  it.each(times)('is created and changed with %s', async (_, expiresAt, sent) => {
    proxy.mishaps = [json(201, issued), json(200, done)];
    await client().createRepoAiApiKey('shop', { ...key, expiresAt });
    await client().updateRepoAiApiKey('shop', 'k', { expiresAt });
    expect(requests()).toEqual([
      ['POST /repo/shop/ai/apikey', { ...key, ...sent }],
      [`PUT ${keyPath}`, sent],
    ]);
  });

  it('is not made one that never expires by a Date that is none', async () => {
    const expiresAt = new Date('soon');
    await expect(client().createRepoAiApiKey('shop', { ...key, expiresAt })).rejects.toThrow(RangeError);
    await expect(client().updateRepoAiApiKey('shop', 'k', { expiresAt })).rejects.toThrow(RangeError);
    expect(proxy.seen).toEqual([]);
  });
});

describe('a rotation', () => {
  it('gives the new secret and the position of the change', async () => {
    proxy.mishaps = [json(200, issued, { 'keyledger-position': 'log:8' })];
    const { id, secret, position } = await client().rotateRepoAiApiKey('shop', 'k');
    expect({ id, secret, position }).toEqual({ id: 'k', secret: SECRET, position: 'log:8' });
    expect(requests()).toEqual([[`POST ${keyPath}/rotate`, {}]]);
  });

  it('has one idempotency key for all its tries, and another than the next rotation', async () => {
    proxy.mishaps = [cut, page(502), halved(issued), json(200, issued), cut, json(200, issued)];
    await client().rotateRepoAiApiKey('shop', 'k', { overlapSeconds: 0 });
    await client().rotateRepoAiApiKey('shop', 'k', { overlapSeconds: 0 });
    const [first, , , , second] = keysSent();
    expect(keysSent()).toEqual([first, first, first, first, second, second]);
    expect(first).toMatch(/./);
    expect(second).not.toBe(first);
    expect(proxy.seen.map(({ body }) => body)).toEqual(Array(6).fill('{"overlapSeconds":0}'));
  });

  it('whose outcome stays unknown can be made again with the idempotency key of the error', async () => {
    proxy.mishaps = [cut, cut, json(200, issued)];
    const error = await errorOf(client({ attempts: 2 }).rotateRepoAiApiKey('shop', 'k'));
    expect(error).toMatchObject({ status: 0, code: 'NETWORK', idempotencyKey: keysSent()[0] });
    const idempotencyKey = error.idempotencyKey ?? undefined;
    expect(await client().rotateRepoAiApiKey('shop', 'k', {}, { idempotencyKey })).toMatchObject(issued);
    expect(keysSent()).toEqual([idempotencyKey, idempotencyKey, idempotencyKey]);
  });

  it('takes the idempotency key of the caller, and rejects if it was used for something else', async () => {
    const idempotencyKey = randomUUID();
    proxy.mishaps = [json(409, { success: false, code: 'IDEMPOTENCY_KEY_USED', message: 'Used', id: 'k' })];
    const call = client().rotateRepoAiApiKey('shop', 'k', {}, { idempotencyKey });
    expect(await errorOf(call)).toMatchObject({ code: 'IDEMPOTENCY_KEY_USED', id: 'k', idempotencyKey });
    expect(keysSent()).toEqual([idempotencyKey]);
  });
});

describe('a suspension', () => {
  it('needs no reason', async () => {
    proxy.mishaps = [json(200, done, { 'keyledger-position': 'log:9' })];
    expect(await client().suspendRepoAiApiKey('shop', 'k')).toEqual({ ...done, position: 'log:9' });
    expect(requests()).toEqual([[`POST ${keyPath}/suspend`, {}]]);
  });
});

describe('the revocation of a leaked key', () => {
  it('does not ask for a token', async () => {
    const noToken = () => Promise.reject(new Error('logged out'));
    proxy.mishaps = [cut, json(200, done)];
    expect(await client({ token: noToken }).revokeLeakedApiKey(credential)).toEqual(done);
    expect(proxy.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });
});
