import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { openEventStore } from '../src/event-store/open.js';
import { hashOf } from '../src/security/credentials.js';
import { eventually } from './support/assertions/eventually.js';
import { type Message, type Reading, readStream } from './support/http/event-stream.js';
import { ask, type Json, type Running, runService, tokenFor } from './support/servers/service.js';

let service: Running;
const readings: Reading[] = [];
beforeEach(async () => {
  service = await runService({ RATE_LIMIT: '0' });
});
afterEach(async () => {
  for (const reading of readings.splice(0)) reading.close();
  await service.stop();
});

type Made = { readonly id: string; readonly key: string; readonly secret: string };
async function create(name = 'search', repoId = 'shop'): Promise<Made> {
  const token = await service.token('admin', repoId);
  const body = { name, aiType: 'OPENAI' };
  return (await service.ask('POST', `/repo/${repoId}/ai/apikey`, { token, body })).json as Made;
}
const change = async (method: string, path: string, body?: Json) =>
  service.ask(method, `/repo/shop/ai/apikey/${path}`, { token: await service.token('admin'), body });

async function follow(query = '', grants: object = { shop: 'replica' }): Promise<readonly Message[]> {
  const token = await tokenFor(service.config, grants, 'gateway');
  const reading = await readStream(`${service.url}/replica${query}`, token);
  readings.push(reading);
  await eventually(() => reading.messages.some(({ event }) => event === 'caught-up'));
  return reading.messages;
}
const keysOf = (messages: readonly Message[]): Json[] =>
  messages.filter(({ event }) => event === 'keys').flatMap(({ data }) => data as unknown as Json[]);
const begin = (messages: readonly Message[]) => messages[0] as Message;
const mark = (messages: readonly Message[]) => messages.find(({ event }) => event === 'caught-up')?.id as string;

describe('the replica feed', () => {
  it('begins with every key of the repositories, and continues with each that changes', async () => {
    const { id, key, secret } = await create();
    await create('elsewhere', 'bank');
    const messages = await follow();
    expect(begin(messages)).toMatchObject({ event: 'begin', id: undefined, data: { snapshot: true } });
    const first = {
      apiKeyId: id,
      repoId: 'shop',
      name: 'search',
      aiType: 'OPENAI',
      accessKey: key,
      status: 'active',
      expiresAt: null,
      secretHash: hashOf(secret),
      oldSecret: null,
    };
    expect(keysOf(messages)).toEqual([first]);
    await create('elsewhere', 'bank');
    const rotated = (await change('POST', `${id}/rotate`, { overlapSeconds: 60 })).json['secret'] as string;
    await eventually(() => keysOf(messages).length === 2);
    expect(keysOf(messages)[1]).toEqual({
      ...first,
      secretHash: hashOf(rotated),
      oldSecret: { hash: hashOf(secret), goodUntil: expect.any(String) },
    });
    await change('DELETE', id);
    await eventually(() => keysOf(messages).at(-1)?.['status'] === 'deleted');
    expect(JSON.stringify(messages)).not.toMatch(/ealed|idempotency/);
    expect(JSON.stringify(messages)).not.toContain(secret);
  });

  it('says every second how far it is and how old that may be, past what is not for its reader', async () => {
    const messages = await follow();
    await create('elsewhere', 'bank');
    const beats = () => messages.filter(({ event }) => event === 'heartbeat');
    await eventually(() => beats().some(({ id }) => (id ?? '') > mark(messages)));
    const staleness = beats().at(-1)?.data['staleness'];
    expect(staleness).toBeGreaterThanOrEqual(0);
    expect(staleness).toBeLessThan(10);
    expect(keysOf(messages)).toEqual([]);
  });

  it('resumes after a position with the keys that changed since, as they are now', async () => {
    const [kept, changed] = [await create('kept'), await create('changed')];
    const from = mark(await follow());
    await change('PUT', changed.id, { name: 'renamed' });
    await change('POST', `${changed.id}/suspend`);
    const fresh = await create('fresh');
    const messages = await follow(`?after=${from}`);
    expect(begin(messages).data['snapshot']).toBe(false);
    const received = new Map(keysOf(messages).map((key) => [key['apiKeyId'], key]));
    expect([...received.keys()].sort()).toEqual([changed.id, fresh.id].sort());
    expect(received.get(changed.id)).toMatchObject({ name: 'renamed', status: 'suspended' });
    expect(received.has(kept.id)).toBe(false);
  });

  it('tells by its scope whether the same repositories may be followed', async () => {
    const scope = async (grants: object) => begin(await follow('', grants)).data['scope'];
    const shop = await scope({ shop: 'replica' });
    expect(await scope({ shop: 'replica' })).toBe(shop);
    expect(await scope({ shop: 'replica', bank: 'replica' })).not.toBe(shop);
    expect(await scope({ '*': 'replica' })).not.toBe(shop);
    expect(await scope({ '*': 'replica', bank: 'viewer' })).not.toBe(await scope({ '*': 'replica' }));
  });

  it('holds every key of a large log, and none of a repository that is excepted', async () => {
    await Promise.all(Array.from({ length: 1200 }, (_, n) => create(`key ${n}`, n % 3 === 0 ? 'bank' : 'shop')));
    const every = keysOf(await follow('', { '*': 'replica' }));
    expect(new Set(every.map(({ apiKeyId }) => apiKeyId)).size).toBe(1200);
    const some = keysOf(await follow('', { '*': 'replica', bank: 'admin' }));
    expect(some).toHaveLength(800);
    expect(new Set(some.map(({ repoId }) => repoId))).toEqual(new Set(['shop']));
  }, 60_000);

  it('shows a key whose history cannot be read as unavailable', async () => {
    const { id } = await create();
    const messages = await follow();
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: () => undefined,
      warn: () => undefined,
    });
    const event = {
      id: '5b6f0c4e-1111-4222-8333-444455556666',
      type: 'ApiKeyBlessed',
      data: {},
      metadata: {},
    };
    await log.append(apiKeyStream(id), [event], 0);
    await log.close();
    await eventually(() => keysOf(messages).at(-1)?.['status'] === 'unavailable');
  });

  it('skips nothing that makes a key unavailable, however far its reader lags', async () => {
    const { id } = await create();
    const after = mark(await follow());
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: () => undefined,
      warn: () => undefined,
    });
    const unknown = () => ({ id: randomUUID(), type: 'ApiKeyBlessed', data: {}, metadata: {} });
    await log.append(apiKeyStream(id), [unknown(), ...Array.from({ length: 1500 }, unknown)], 0);
    await log.close();
    await create('another');
    const received = keysOf(await follow(`?after=${after}`));
    expect(received.filter(({ apiKeyId }) => apiKeyId === id).at(-1)?.['status']).toBe('unavailable');
  });

  it('is for replicas only, and for positions of this log only', async () => {
    const at = (query: string, token?: string) =>
      ask(`${service.url}/replica${query}`, 'GET', token === undefined ? {} : { token });
    for (const role of ['admin', 'auditor', 'viewer', 'verifier']) {
      expect((await at('', await service.token(role))).status).toBe(403);
    }
    expect((await at('')).status).toBe(401);
    const token = await service.token('replica');
    const end = mark(await follow());
    expect((await at('?after=now', token)).json).toMatchObject({ code: 'INVALID_INPUT' });
    expect((await at(`?after=${end.replace(/^./, (c) => (c === 'a' ? 'b' : 'a'))}`, token)).status).toBe(409);
    expect((await at(`?after=${end.slice(0, 37)}ffffffffffffffff`, token)).status).toBe(409);
  });
});
