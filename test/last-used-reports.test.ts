import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { openSqliteLastUsedStore } from '../src/last-used/sqlite-last-used.js';
import { createVerifier } from '../src/sdk/verifier/index.js';
import { type LastUse, LastUsedReporter } from '../src/sdk/verifier/last-used-reporter.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { spawnService } from './support/servers/child-service.js';
import { type Json, type Running, runService } from './support/servers/service.js';

let service: Running;
beforeAll(async () => {
  service = await runService();
});
afterAll(() => service.stop());

const HOUR_MS = 3_600_000;
type Credential = { readonly id: string; readonly key: string; readonly secret: string };

const create = async (repoId: string): Promise<Credential> => {
  const body = { name: 'search', aiType: 'OPENAI' };
  const token = await service.token('admin', repoId);
  return (await service.ask('POST', `/repo/${repoId}/ai/apikey`, { token, body })).json as Credential;
};
const fetchKey = async (repoId: string, id: string): Promise<Json> => {
  const token = await service.token('viewer', repoId);
  const list = (await service.ask('GET', `/repo/${repoId}/ai/apikey`, { token })).json['apiKeys'] as Json[];
  const one = await service.ask('GET', `/repo/${repoId}/ai/apikey/${id}`, { token });
  const listed = list.find((key) => key['id'] === id);
  expect(listed).toEqual(one.json['apiKey']);
  return listed as Json;
};
const report = async (repoId: string, keys: unknown, headers = {}) =>
  service.ask('POST', '/replica/last-used', {
    token: await service.token('replica', repoId),
    body: { keys },
    headers,
  });
const minuteOf = (ms: number) => new Date(ms - (ms % 60_000)).toISOString();

describe('the last use of a key', () => {
  it('through a verifier in another process is absent until the first report, and then in list and key', async () => {
    const repoId = randomUUID();
    const { id, key, secret } = await create(repoId);
    const verifier = createVerifier({ baseUrl: service.url, token: await service.token('replica', repoId) });
    await verifier.ready();
    const before = Date.now();
    await eventually(() => verifier.verify(key, secret).valid);
    expect(await fetchKey(repoId, id)).not.toHaveProperty('lastUsedAt');
    await verifier.close();
    const after = Date.now();
    expect([minuteOf(before), minuteOf(after)]).toContain((await fetchKey(repoId, id))['lastUsedAt']);
  });

  it('is not reported for a credential that was refused', async () => {
    const repoId = randomUUID();
    const { id, key } = await create(repoId);
    const verifier = createVerifier({ baseUrl: service.url, token: await service.token('replica', repoId) });
    await verifier.ready();
    await eventually(() => (verifier.verify(key, `secret_${'a'.repeat(49)}`) as Json)['reason'] !== 'UNKNOWN');
    await verifier.close();
    expect(await fetchKey(repoId, id)).not.toHaveProperty('lastUsedAt');
  });

  it('is the latest that was reported, and never in the future', async () => {
    const repoId = randomUUID();
    const { id } = await create(repoId);
    const now = Date.now();
    const at = (ms: number) => [{ id, at: new Date(ms).toISOString() }];
    expect((await report(repoId, at(now - HOUR_MS))).status).toBe(200);
    expect((await report(repoId, at(now - 2 * HOUR_MS))).status).toBe(200);
    expect((await fetchKey(repoId, id))['lastUsedAt']).toBe(minuteOf(now - HOUR_MS));
    expect((await report(repoId, at(now + 48 * HOUR_MS))).status).toBe(200);
    expect([minuteOf(now), minuteOf(Date.now())]).toContain((await fetchKey(repoId, id))['lastUsedAt']);
  });

  it('is not in the future although a clock that was ahead has left it there', async () => {
    const repoId = randomUUID();
    const { id } = await create(repoId);
    const store = openSqliteLastUsedStore(join(service.folder, 'usage.db'), pino({ level: 'silent' }));
    const now = Date.now();
    await store.write([[id, now + 48 * HOUR_MS]]);
    await store.close();
    expect([minuteOf(now), minuteOf(Date.now())]).toContain((await fetchKey(repoId, id))['lastUsedAt']);
  });

  it('may only be reported of keys of repositories that the token may follow', async () => {
    const repoId = randomUUID();
    const { id } = await create(repoId);
    const at = new Date().toISOString();
    expect((await report('elsewhere', [{ id, at }])).status).toBe(200);
    expect(
      (
        await report(repoId, [
          { id: randomUUID(), at },
          { id: 'constructor', at },
        ])
      ).status,
    ).toBe(200);
    expect(await fetchKey(repoId, id)).not.toHaveProperty('lastUsedAt');
  });

  it.each<[string, unknown]>([
    ['is no list', 'x'],
    ['is too long', Array.from({ length: 201 }, () => ({ id: 'x', at: '2026-01-01T00:00:00Z' }))],
    ['has a time without a zone', [{ id: 'x', at: '2026-01-01T00:00:00' }]],
    ['has a key with an unknown member', [{ id: 'x', at: '2026-01-01T00:00:00Z', when: 1 }]],
    ['has a key without an id', [{ at: '2026-01-01T00:00:00Z' }]],
  ])('is refused where the list %s', async (_, keys) => {
    expect(await report('shop', keys)).toMatchObject({ status: 400, json: { code: 'INVALID_INPUT' } });
  });

  it('that was reported outlives a service that is killed', async () => {
    const data = temporaryFolder();
    let child = await spawnService(data.path);
    const token = await child.token('admin');
    const body = { name: 'search', aiType: 'AWS' };
    const { id } = (await child.ask('POST', '/repo/shop/ai/apikey', { token, body })).json;
    const keys = [{ id, at: new Date().toISOString() }];
    const reported = await child.ask('POST', '/replica/last-used', {
      token: await child.token('replica'),
      body: { keys },
    });
    expect(reported.status).toBe(200);
    await child.end('SIGKILL');
    child = await spawnService(data.path);
    const { json } = await child.ask('GET', `/repo/shop/ai/apikey/${id}`, { token });
    expect(json['apiKey']).toHaveProperty('lastUsedAt');
    await child.end('SIGKILL');
    data.remove();
  });

  it('is not taken while it cannot be stored', async () => {
    const data = temporaryFolder();
    mkdirSync(join(data.path, 'usage.db'));
    const child = await spawnService(data.path);
    const token = await child.token('replica');
    const answer = await child.ask('POST', '/replica/last-used', { token, body: { keys: [] } });
    expect(answer).toMatchObject({ status: 503, json: { code: 'UNAVAILABLE' } });
    await child.end('SIGKILL');
    data.remove();
  });

  it('waits for an instance that has not seen the key yet', async () => {
    const token = await service.token('admin');
    const { headers } = await service.ask('POST', '/repo/shop/ai/apikey', {
      token,
      body: { name: 'search', aiType: 'AWS' },
    });
    const position = headers.get('keyledger-position') ?? '';
    const later = `${position.slice(0, 37)}${'f'.repeat(position.length - 37)}`;
    const answer = await report('shop', [], { 'keyledger-min-position': later });
    expect(answer).toMatchObject({ status: 503, json: { code: 'BEHIND' } });
  });
});

describe('reports', () => {
  /** Receives reports, and fails when the test says so. */
  function receiver() {
    const batches: (readonly LastUse[])[] = [];
    const errors: string[] = [];
    const state = { failure: undefined as Error | undefined, tries: 0 };
    const send = async (keys: readonly LastUse[]) => {
      state.tries++;
      if (state.failure) throw state.failure;
      batches.push(keys);
    };
    const start = (intervalMs: number) =>
      new LastUsedReporter(send, ({ message }) => void errors.push(message), intervalMs);
    return { batches, errors, state, start };
  }
  const at = Date.UTC(2026, 0, 1);
  const timeOf = (ms: number) => new Date(ms).toISOString();

  it('hold each key once, with its latest use, in batches that the service takes', async () => {
    const { batches, start } = receiver();
    const reporter = start(HOUR_MS);
    for (let n = 0; n < 450; n++) reporter.record(`key-${n}`, at);
    for (let n = 0; n < 450; n++) reporter.record(`key-${n}`, at + n);
    await reporter.close();
    expect(batches.map(({ length }) => length)).toEqual([200, 200, 50]);
    expect(batches.flat()).toEqual(Array.from({ length: 450 }, (_, n) => ({ id: `key-${n}`, at: timeOf(at + n) })));
    for (const keys of batches) expect(JSON.stringify({ keys }).length).toBeLessThan(16 * 1024);
  });

  it('fit into a body of the service when they are as large as they may be', async () => {
    const keys = Array.from({ length: 200 }, () => ({ id: randomUUID(), at: timeOf(Date.now()) }));
    expect((await report('shop', keys)).status).toBe(200);
  });

  it('are made again and again, of what is new', async () => {
    const { batches, start } = receiver();
    const reporter = start(1);
    reporter.record('a', at);
    await eventually(() => batches.length === 1);
    reporter.record('b', at + 1);
    await eventually(() => batches.length === 2);
    await reporter.close();
    expect(batches).toEqual([[{ id: 'a', at: timeOf(at) }], [{ id: 'b', at: timeOf(at + 1) }]]);
  });

  it('that fail lose nothing, and call back once an outage', async () => {
    const { batches, errors, state, start } = receiver();
    state.failure = new Error('out of reach');
    const reporter = start(1);
    reporter.record('a', at);
    reporter.record('b', at);
    await eventually(() => state.tries >= 3);
    reporter.record('a', at + 1);
    expect(batches).toEqual([]);
    expect(errors).toEqual(['Last uses of keys were not reported: out of reach']);
    state.failure = undefined;
    await eventually(() => batches.length === 1);
    expect(batches.flat()).toEqual([
      { id: 'a', at: timeOf(at + 1) },
      { id: 'b', at: timeOf(at) },
    ]);
    state.failure = new Error('out of reach');
    reporter.record('a', at + 2);
    await eventually(() => errors.length === 2);
    await reporter.close();
  });

  it('that nobody answers do not hold the end up', async () => {
    const send = (_: unknown, signal: AbortSignal) =>
      new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const errors: string[] = [];
    const reporter = new LastUsedReporter(send, ({ message }) => void errors.push(message), HOUR_MS);
    reporter.record('a', at);
    await reporter.close();
    await eventually(() => errors.length === 1);
    expect(errors).toEqual(['Last uses of keys were not reported: The verifier is closed']);
  });
});
