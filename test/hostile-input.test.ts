import swagger from '@fastify/swagger';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import { fastify } from 'fastify';
import { ROLES } from '../src/domain/authorization.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { attack, type Target } from './support/http/attack.js';
import { type OpenApi, operationsOf } from './support/http/requests-from-openapi.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const RUNS_A_CALL = 100;

const folder = freshFolder();
let child: Child;
let admin: string;
beforeAll(async () => {
  child = await spawnService(folder.path, { RATE_LIMIT: '0' });
  admin = await child.token('admin');
});
afterAll(async () => {
  await child.end('SIGKILL');
  folder.remove();
});

const make = async (path: string, body: object): Promise<Json> =>
  (await child.ask('POST', path, { token: admin, body })).json;

/** A key and a webhook, made anew: whatever came before may have deleted the last ones. */
async function whatThereIs() {
  const key = await make('/repo/shop/ai/apikey', { name: 'search', aiType: 'OPENAI' });
  const webhook = await make('/repo/shop/webhook', { url: 'https://hooks.invalid/hook' });
  const headers = { accept: 'application/json' };
  const events = await child.ask('GET', '/events?after=start&limit=1', { token: admin, headers });
  const bookmark = String(events.json['next']);
  const position = bookmark.slice(0, bookmark.indexOf('.'));
  return {
    known: {
      repoId: ['shop'],
      repo: ['shop'],
      apikeyId: [String(key['id'])],
      webhookId: [String(webhook['id'])],
      key: [String(key['key'])],
      'x-api-key': [String(key['key'])],
      url: ['https://hooks.invalid/hook'],
      after: ['start', bookmark],
      'last-event-id': ['start', bookmark],
      'keyledger-min-position': [position],
      cursor: [position],
      asOf: [position, '2026-01-01T00:00:00Z', '0000-01-01T00:00:00+23:59', '9999-12-31T23:59:59-23:59'],
      from: [position, '0000-01-01T00:00:00+23:59'],
      to: [position, '9999-12-31T23:59:59-23:59'],
      type: ['ApiKeyCreated', 'ApiKeyCreated,ApiKeyDeleted'],
      actor: ['ada'],
    },
    secrets: [String(key['secret']), String(webhook['secret'])],
  };
}

it('whatever is sent to any call gets an answer as the document says it, without secrets, and harms nobody', async () => {
  const others = await Promise.all([...ROLES, 'nobody'].map((role) => child.token(role)));
  // Who may do most gets furthest.
  const tokens = [undefined, 'no.token.atall', ...others, admin, admin, admin, admin];
  const statuses = await attack({ url: child.url, tokens, whatThereIs }, RUNS_A_CALL);
  expect([...statuses]).toEqual(expect.arrayContaining([200, 201, 400, 401, 403, 404, 413, 415]));
  expect((await child.ask('GET', '/health/ready')).status).toBe(200);
  // What was acknowledged can be read.
  const metrics = (await child.ask('GET', '/metrics')).text.split('\n');
  expect(metrics.filter((line) => line.startsWith('keyledger_quarantined'))).toEqual([
    'keyledger_quarantined_streams 0',
  ]);
  expect(child.process.exitCode).toBeNull();
  expect(child.output()).not.toMatch(/request failed|"level":[56]0/);
}, 60_000);

it('a route that is new is attacked, too, because it is in the document', async () => {
  const app = fastify();
  await app.register(swagger, { openapi: { openapi: '3.1.0' } });
  await app.register(async (routes) => {
    const params = { type: 'object', properties: { thing: { type: 'string' } }, required: ['thing'] };
    const body = { type: 'object', properties: { size: { type: 'integer' } }, required: ['size'] };
    routes.post('/new/:thing', { schema: { params, body } }, async () => {
      throw new Error('broken');
    });
  });
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
  const target: Target = {
    url: await app.listen({ host: '127.0.0.1', port: 0 }),
    tokens: [undefined],
    whatThereIs: async () => ({ known: {}, secrets: [] }),
  };
  try {
    await expect(attack(target, RUNS_A_CALL)).rejects.toThrow(/POST \/new\/\{thing\} fails: 500/);
  } finally {
    await app.close();
  }
});

it.each(['9999-12-31T23:59:59-00:01', '0000-01-01T00:00:00+00:01'])(
  'a time that no four digits of a year can tell in UTC (%s) is refused, and makes no key unreadable',
  async (expiresAt) => {
    const keys = '/repo/times/ai/apikey';
    const body = { name: 'search', aiType: 'OPENAI' };
    const { id } = await make(keys, body);
    for (const answer of [
      await child.ask('POST', keys, { token: admin, body: { ...body, expiresAt } }),
      await child.ask('PUT', `${keys}/${id}`, { token: admin, body: { expiresAt } }),
    ]) {
      expect(answer).toMatchObject({ status: 400, json: { code: 'INVALID_INPUT' } });
    }
    const last = { ...body, expiresAt: '9999-12-31T23:59:59.999Z' };
    expect((await child.ask('POST', keys, { token: admin, body: last })).status).toBe(201);
    const { json } = await child.ask('GET', keys, { token: admin });
    expect((json['apiKeys'] as Json[]).map(({ status }) => status)).not.toContain('unavailable');
  },
);

/** In this process, whose objects are looked at. */
let service: Running | undefined;
afterEach(() => service?.stop());

it('what is named like a part of every object never becomes one', async () => {
  service = await runService({ RATE_LIMIT: '0' });
  const [admin, verifier, replica] = [
    await service.token('admin', '*'),
    await service.token('verifier', '*'),
    await service.token('replica', '*'),
  ];
  const before = Object.getOwnPropertyNames(Object.prototype);
  const { json } = await service.ask('GET', '/openapi.json');
  const calls = operationsOf(json as unknown as OpenApi).filter(({ path }) => path !== '/replica');
  const evil = ['{"__proto__":{"polluted":1}}', '{"constructor":{"prototype":{"polluted":1}}}'];
  const query = '__proto__[polluted]=1&__proto__=polluted&constructor[prototype][polluted]=1&constructor=1';
  for (const { method, path, body } of calls) {
    const address = path.replaceAll(/\{\w+\}/g, '__proto__');
    const token = path === '/verify' ? verifier : path === '/replica/last-used' ? replica : admin;
    const headers = { accept: 'application/json', 'x-api-key': '__proto__' };
    for (const text of body ? evil : [undefined]) {
      const { status } = await service.ask(method, `${address}?${query}`, { token, headers, body: text });
      expect([path, text, status < 500]).toEqual([path, text, true]);
      if (text?.includes('__proto__')) expect([path, status]).toEqual([path, 400]);
    }
  }
  expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
  expect(({} as Json)['polluted']).toBeUndefined();
});
