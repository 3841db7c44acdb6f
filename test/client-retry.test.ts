import { randomUUID } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type ClientOptions, createClient } from '../src/sdk/client/index.js';
import { wait } from '../src/sdk/client/retry.js';
import { eventually } from './support/assertions/eventually.js';
import {
  client,
  key,
  proxy,
  repoId,
  resetClientAndProxy,
  runClientAndService,
  service,
  token,
} from './support/servers/client-and-service.js';
import {
  answerHalved,
  answerHeld,
  answerLost,
  answerReplaced,
  cut,
  json,
  type Mishap,
  page,
} from './support/servers/unreliable-proxy.js';

runClientAndService();

const listed = async () => (await createClient({ baseUrl: service.url, token }).getRepoAiApiKeys(repoId)).apiKeys;

const NOW = { 'retry-after': '0' };
const outcomeUnknown = json(503, { success: false, code: 'OUTCOME_UNKNOWN', message: 'unknown' }, NOW);
const unavailable = json(503, { success: false, code: 'UNAVAILABLE', message: 'not done' }, NOW);
const tooMany = json(429, { success: false, code: 'RATE_LIMITED', message: 'too many' }, NOW);

/** Every mishap that a creation survives. */
const SURVIVED: Readonly<Record<string, Mishap>> = {
  'the answer is lost': answerLost,
  'half of the answer arrives': answerHalved,
  'the connection is cut before the service hears of it': cut,
  'a proxy answers 502 after the service has done it': answerReplaced(page(502)),
  'a proxy answers 504 after the service has done it': answerReplaced(page(504)),
  'a proxy answers 503': page(503),
  'the service does not know what became of it': answerReplaced(outcomeUnknown),
  'the service is unavailable': unavailable,
  'there are too many requests': tooMany,
  'the request does not arrive in time': json(408, { success: false, code: 'TIMEOUT', message: 'late' }, NOW),
  'a proxy answers 408': page(408),
  'a proxy has only its early data (425)': page(425),
};

/** Asserts that exactly one key exists, and that the client holds the service's first answer. */
async function expectOneKey(mishaps: readonly Mishap[], options: Partial<ClientOptions> = {}): Promise<void> {
  proxy.mishaps = [...mishaps];
  const created = await client(options).createRepoAiApiKey(repoId, key);
  const [first] = proxy.answers;
  expect(created).toEqual({ ...first?.json, position: first?.headers.get('keyledger-position') });
  expect(await listed()).toMatchObject([{ id: created.id, key: created.key }]);
  expect(proxy.seen).toHaveLength(mishaps.length + 1);
  expect(new Set(proxy.seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
}

describe('a creation makes one key and gives the secret of the first answer', () => {
  it.each(Object.entries(SURVIVED))('although %s', (_, mishap) => expectOneKey([mishap]));

  it('although no answer comes within the time limit', () => expectOneKey([answerHeld], { timeoutMs: 1500 }));

  it('whatever happens one after another', async () => {
    const mishaps = fc.array(fc.constantFrom(...Object.values(SURVIVED)), { minLength: 2, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(mishaps, async (order) => {
        resetClientAndProxy();
        await expectOneKey(order);
      }),
      { numRuns: 10, endOnFailure: true },
    );
  }, 60_000);

  it('to each of many callers at once with one idempotency key', async () => {
    proxy.mishaps = [answerLost, unavailable, answerHalved, cut, answerReplaced(page(502)), answerLost];
    const options = { idempotencyKey: randomUUID() };
    const calls = Array.from({ length: 8 }, () => client({ attempts: 8 }).createRepoAiApiKey(repoId, key, options));
    const [first, ...others] = await Promise.all(calls);
    for (const other of others) expect(other).toEqual(first);
    expect(await listed()).toMatchObject([{ id: first?.id, key: first?.key }]);
  });

  it('of their own to many callers at once without one', async () => {
    proxy.mishaps = [answerLost, unavailable, answerHalved, cut, answerReplaced(page(502)), answerLost];
    const calls = Array.from({ length: 8 }, () => client({ attempts: 8 }).createRepoAiApiKey(repoId, key));
    const ids = (await Promise.all(calls)).map(({ id }) => id);
    expect((await listed()).map(({ id }) => id).sort()).toEqual(ids.sort());
    expect(new Set(ids).size).toBe(8);
  });

  it('when the caller makes the call again with the idempotency key of the error', async () => {
    proxy.mishaps = [answerLost, answerLost];
    const error = await client({ attempts: 2 })
      .createRepoAiApiKey(repoId, key)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ status: 0, code: 'NETWORK', idempotencyKey: expect.any(String) });
    const { idempotencyKey } = error as { idempotencyKey: string };
    const created = await client().createRepoAiApiKey(repoId, key, { idempotencyKey });
    expect(created.secret).toBe(proxy.answers[0]?.json['secret']);
    expect(await listed()).toMatchObject([{ id: created.id }]);
  });

  it('although the caller reuses the object that it gave', async () => {
    const mine: { name: string; aiType: 'AWS' } = { name: 'mine', aiType: 'AWS' };
    proxy.mishaps = [cut];
    const call = client().createRepoAiApiKey(repoId, mine);
    mine.name = 'next';
    await call;
    expect(proxy.seen.map(({ body }) => JSON.parse(body).name)).toEqual(['mine', 'mine']);
  });
});

describe('a retry', () => {
  it('repeats lists and renames, too', async () => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    proxy.mishaps = [answerLost, unavailable];
    expect(await client().updateRepoAiApiKey(repoId, id, { name: 'find' })).toMatchObject({
      message: 'API key unchanged',
      position: proxy.answers.at(-1)?.headers.get('keyledger-position'),
    });
    proxy.mishaps = [answerHalved, page(504)];
    expect((await client().getRepoAiApiKeys(repoId)).apiKeys).toMatchObject([{ id, name: 'find' }]);
  });

  it.each([400, 401, 403, 404, 409, 413, 422, 500, 501])('is not made after %d', async (status) => {
    proxy.mishaps = [page(status, NOW)];
    await expect(client().createRepoAiApiKey(repoId, key)).rejects.toMatchObject({ status });
    expect(proxy.seen).toHaveLength(1);
  });

  it('has a maximum of attempts, and rejects with the last error', async () => {
    proxy.mishaps = [cut, cut, cut, page(502)];
    await expect(client().getRepoAiApiKeys(repoId)).rejects.toMatchObject({ status: 502 });
    expect(proxy.seen).toHaveLength(4);
    proxy.reset();
    proxy.mishaps = [unavailable];
    await expect(client({ attempts: 1 }).getRepoAiApiKeys(repoId)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    expect(proxy.seen).toHaveLength(1);
  });

  it('waits for what Retry-After asks', async () => {
    proxy.mishaps = [page(503, { 'retry-after': '1' })];
    await client().getRepoAiApiKeys(repoId);
    const [first, second] = proxy.seen.map(({ at }) => at);
    // Timers count whole milliseconds.
    expect((second ?? 0) - (first ?? 0)).toBeGreaterThan(998);
  });

  it('gives up after the last time limit', async () => {
    proxy.mishaps = [answerHeld, answerHeld];
    const call = client({ attempts: 2, timeoutMs: 500 }).createRepoAiApiKey(repoId, key);
    await expect(call).rejects.toMatchObject({ status: 0, code: 'TIMEOUT', cause: { name: 'AbortError' } });
    expect(proxy.seen).toHaveLength(2);
    const never = client({ token: () => new Promise(() => undefined), attempts: 2, timeoutMs: 50 });
    await expect(never.getRepoAiApiKeys(repoId)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(proxy.seen).toHaveLength(2);
  });
});

describe('a deletion that finds no key', () => {
  const lost: [string, Mishap][] = [
    ['the answer was lost', answerLost],
    ['half of the answer arrived', answerHalved],
    ['a proxy answered 502', answerReplaced(page(502))],
    ['a proxy answered 503', answerReplaced(page(503))],
    ['the service did not know what became of it', answerReplaced(outcomeUnknown)],
  ];
  it.each(lost)('is not called a success if, before, %s', async (_, mishap) => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    proxy.mishaps = [mishap];
    const call = client().deleteRepoAiApiKey(repoId, id);
    await expect(call).rejects.toMatchObject({ status: 404, code: 'KEY_NOT_FOUND' });
    expect(await listed()).toEqual([]);
  });

  it('fails if it is not the service that says so', async () => {
    const { id } = await client().createRepoAiApiKey(repoId, key);
    proxy.mishaps = [cut, page(404)];
    await expect(client().deleteRepoAiApiKey(repoId, id)).rejects.toMatchObject({
      status: 404,
      code: 'HTTP_404',
    });
    expect(await listed()).toMatchObject([{ id }]);
  });
});

describe('an abort by the caller', () => {
  const reason = new Error('enough');

  it('before the call sends nothing', async () => {
    const call = client().getRepoAiApiKeys(repoId, { signal: AbortSignal.abort(reason) });
    await expect(call).rejects.toBe(reason);
    expect(proxy.seen).toEqual([]);
  });

  it('ends a try under way, and makes no other', async () => {
    const stop = new AbortController();
    proxy.mishaps = [() => stop.abort(reason)];
    await expect(client().createRepoAiApiKey(repoId, key, { signal: stop.signal })).rejects.toBe(reason);
    expect(proxy.seen).toHaveLength(1);
  });

  it('ends the wait for the next try', async () => {
    const stop = new AbortController();
    proxy.mishaps = [page(503, { 'retry-after': '60' })];
    const call = client().deleteRepoAiApiKey(repoId, randomUUID(), { signal: stop.signal });
    const refused = expect(call).rejects.toBe(reason);
    await eventually(() => proxy.seen.length === 1);
    stop.abort(reason);
    await refused;
    expect(proxy.seen).toHaveLength(1);
  });

  it('ends a wait at any time', async () => {
    const stop = new AbortController();
    const waiting = wait(60_000, stop.signal);
    stop.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(wait(60_000, stop.signal)).rejects.toBe(reason);
  });

  it('ends the asking for a token', async () => {
    const stop = new AbortController();
    const tokenFunction = () => {
      stop.abort(reason);
      return new Promise<string>(() => undefined);
    };
    const call = client({ token: tokenFunction }).updateRepoAiApiKey(repoId, 'k', {}, { signal: stop.signal });
    await expect(call).rejects.toBe(reason);
  });

  it('is listened for no longer than the call lasts', async () => {
    const { signal } = new AbortController();
    proxy.mishaps = [unavailable, cut];
    await client().getRepoAiApiKeys(repoId, { signal });
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});
