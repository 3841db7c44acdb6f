import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { webhookStream } from '../src/domain/webhook.js';
import { eventually } from './support/assertions/eventually.js';
import { withLogAt } from './support/fixtures/log-copies.js';
import { startReceiver } from './support/servers/receiver.js';
import { type Answer, type Ask, type Json, type Running, runService } from './support/servers/service.js';

const hooks = '/repo/shop/webhook';
const url = 'https://hooks.example/keys';
let service: Running;
let token: string;
beforeEach(async () => {
  service = await runService({ RATE_LIMIT: '0', WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1/32' });
  token = await service.token('admin');
});
afterEach(() => service.stop());

const ask = (method: string, path: string, request: Ask = {}) => service.ask(method, path, { token, ...request });
const register = async (body: Json = {}) => (await ask('POST', hooks, { body: { url, ...body } })).json['id'] as string;
const history = async (id: string) => {
  const { json } = await ask('GET', `${hooks}/${id}/history`);
  return (json['events'] as Json[]).map(({ type }) => type);
};
const positionOf = (answer: Answer) => answer.headers.get('keyledger-position') ?? '';

/** Each route with an endpoint in its path, and a valid request; the deletion comes last. */
const routes: readonly [string, string, Json?][] = [
  ['GET', ''],
  ['GET', '/deliveries'],
  ['GET', '/history'],
  ['POST', '/ping'],
  ['PUT', '', { description: 'billing' }],
  ['POST', '/pause', { reason: 'maintenance' }],
  ['POST', '/resume'],
  ['POST', '/rotate', { overlapSeconds: 60 }],
  ['POST', '/replay', { after: 'start' }],
  ['DELETE', ''],
];
const statuses = async (base: string, as: string | undefined, only = routes) => {
  const found: number[] = [];
  for (const [method, path, body] of only) {
    const request = { ...(as === undefined ? {} : { token: as }), body };
    found.push((await service.ask(method, base + path, request)).status);
  }
  return found;
};
const all = (status: number) => routes.map(() => status);

describe('the routes of an endpoint', () => {
  it('are all named here', async () => {
    const { paths } = (await ask('GET', '/openapi.json')).json as { paths: Record<string, object> };
    const ofEndpoint = '/repo/{repoId}/webhook/{webhookId}';
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      path.startsWith(ofEndpoint)
        ? Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.slice(ofEndpoint.length)}`)
        : [],
    );
    expect(routes.map(([method, path]) => `${method} ${path}`).sort()).toEqual(documented.sort());
  });

  it('are refused to whom has no right, and then change nothing', async () => {
    const id = await register();
    const endpoint = `${hooks}/${id}`;
    for (const role of ['viewer', 'verifier', 'replica', 'emperor']) {
      const as = await service.token(role);
      expect([role, await statuses(endpoint, as)]).toEqual([role, all(403)]);
      expect((await ask('GET', hooks, { token: as })).status).toBe(403);
      expect((await ask('POST', hooks, { token: as, body: { url } })).status).toBe(403);
    }
    const auditor = await service.token('auditor');
    const [seen, changes] = [routes.slice(0, 3), routes.slice(3)];
    expect(await statuses(endpoint, auditor, seen)).toEqual(seen.map(() => 200));
    expect(await statuses(endpoint, auditor, changes)).toEqual(changes.map(() => 403));
    expect((await ask('GET', hooks, { token: auditor })).status).toBe(200);
    expect((await ask('POST', hooks, { token: auditor, body: { url } })).status).toBe(403);
    expect(await statuses(endpoint, undefined)).toEqual(all(401));
    expect(await statuses(endpoint, await service.token('admin', 'bank'))).toEqual(all(403));
    expect(await history(id)).toEqual(['WebhookRegistered']);
    expect((await ask('GET', hooks)).json['webhooks']).toHaveLength(1);
  });

  it('know no endpoint of another repository, none that never was, and none that was deleted but its history', async () => {
    const id = await register();
    const other = await service.token('admin', 'bank');
    for (const unknown of [id, randomUUID(), 'x', id.toUpperCase(), '%00']) {
      expect(await statuses(`/repo/bank/webhook/${unknown}`, other)).toEqual(all(404));
    }
    expect(await history(id)).toEqual(['WebhookRegistered']);
    expect(await statuses(`${hooks}/${id}`, token)).toEqual(all(200));
    const expectedHistory = [
      'WebhookRegistered',
      'WebhookChanged',
      'WebhookPaused',
      'WebhookResumed',
      'WebhookSecretRotated',
      'WebhookReplayed',
      'WebhookDeleted',
    ];
    expect(await history(id)).toEqual(expectedHistory);
    const afterwards = routes.map(([, path]) => (path === '/history' ? 200 : 404));
    expect(await statuses(`${hooks}/${id}`, token)).toEqual(afterwards);
    expect(await history(id)).toEqual(expectedHistory);
  });

  it.each([
    ['PATCH', '', 'DELETE, GET, HEAD, PUT'],
    ['GET', '/pause', 'POST'],
    ['DELETE', '/history', 'GET, HEAD'],
  ])('take no %s …%s', async (method, path, allowed) => {
    const { status, headers } = await ask(method, `${hooks}/${randomUUID()}${path}`);
    expect(status).toBe(405);
    expect(headers.get('allow')?.split(', ').sort().join(', ')).toBe(allowed);
  });
});

describe('what is asked of an endpoint', () => {
  const longest = `https://hooks.example/${'x'.repeat(2048 - 22)}`;

  it('may be as much as the rules allow', async () => {
    const description = '🔑'.repeat(200);
    const id = await register({ url: longest, types: null, description });
    const { json } = await ask('GET', `${hooks}/${id}`);
    expect(json['webhook']).toMatchObject({ url: longest, types: null, description });
    const rotated = await ask('POST', `${hooks}/${id}/rotate`, { body: { overlapSeconds: 30 * 86_400 } });
    expect(rotated.status).toBe(200);
    expect((await ask('PUT', `${hooks}/${id}`, { body: { description: null } })).status).toBe(200);
    expect((await ask('GET', `${hooks}/${id}`)).json['webhook']).toMatchObject({ description: null });
  });

  it.each<[string, string, unknown, string]>([
    ['POST', '', { url: `${longest}x` }, 'url'],
    ['POST', '', { url: 'https:' }, 'url'],
    ['POST', '', { url: 'ftp://hooks.example/' }, 'url'],
    ['POST', '', { url: 'https://user@hooks.example/' }, 'url'],
    ['POST', '', { url: null }, 'url'],
    ['POST', '', { url, types: {} }, 'types'],
    ['POST', '', { url, types: [null] }, 'types'],
    ['POST', '', { url, types: ['WebhookPing'] }, 'types'],
    ['POST', '', { url, description: 7 }, 'description'],
    ['POST', '', { url, description: '\ud800' }, 'description'],
    ['POST', '', undefined, 'JSON'],
    ['POST', '', [], 'JSON'],
    ['POST', '', '{', 'JSON'],
    ['PUT', '/ID', { url: '' }, 'url'],
    ['PUT', '/ID', { description: 'x'.repeat(201) }, 'description'],
    ['PUT', '/ID', 'null x', 'JSON'],
    ['POST', '/ID/rotate', { overlapSeconds: 1.5 }, 'overlapSeconds'],
    ['POST', '/ID/rotate', { overlapSeconds: '60' }, 'overlapSeconds'],
    ['POST', '/ID/rotate', { overlapSeconds: 30 * 86_400 + 1 }, 'overlapSeconds'],
    ['POST', '/ID/pause', { reason: 'x'.repeat(201) }, 'reason'],
    ['POST', '/ID/pause', { reason: 'a\u0000b' }, 'reason'],
    ['POST', '/ID/replay', { after: '' }, 'after'],
    ['POST', '/ID/replay', { after: 'now' }, 'after'],
    ['POST', '/ID/replay', undefined, 'JSON'],
  ])('is refused, and says what is wrong: %s …%s (%#)', async (method, path, body, named) => {
    const id = await register();
    const { status, json } = await ask(method, hooks + path.replace('ID', id), { body });
    expect([status, json]).toEqual([
      400,
      {
        success: false,
        message: expect.stringContaining(named),
        code: expect.stringMatching(/^[A-Z_]+$/),
        requestId: expect.any(String),
      },
    ]);
    expect(await history(id)).toEqual(['WebhookRegistered']);
  });

  it('is a position of this log', async () => {
    const registered = await ask('POST', hooks, { body: { url } });
    const [id, position] = [registered.json['id'] as string, positionOf(registered)];
    const replay = (after: string) => ask('POST', `${hooks}/${id}/replay`, { body: { after } });
    const ofAnother = position.replace(/^./, (digit) => (digit === 'a' ? 'b' : 'a'));
    const beyond = position.slice(0, -4).padEnd(position.length, 'f');
    for (const after of [ofAnother, beyond]) {
      const { status, json } = await replay(after);
      expect([status, json['code']]).toEqual([409, 'OTHER_LOG']);
    }
    expect(await history(id)).toEqual(['WebhookRegistered']);
    expect((await replay(position)).status).toBe(200);
  });

  it('is answered with the position of its event, also where nothing changes', async () => {
    const registered = await ask('POST', hooks, { body: { url } });
    const endpoint = `${hooks}/${registered.json['id']}`;
    let last = positionOf(registered);
    for (const [method, path, body] of [
      ['PUT', '', { description: 'x' }],
      ['POST', '/pause'],
      ['POST', '/resume'],
      ['POST', '/replay', { after: 'start' }],
    ] as const) {
      const position = positionOf(await ask(method, endpoint + path, { body }));
      expect([method, path, position > last]).toEqual([method, path, true]);
      last = position;
    }
    for (const [method, path, body] of [
      ['PUT', '', { url, description: 'x' }],
      ['PUT', '', undefined],
      ['POST', '/resume', undefined],
    ] as const) {
      expect(positionOf(await ask(method, endpoint + path, { body }))).toBe(last);
    }
    const rotated = await ask('POST', `${endpoint}/rotate`);
    expect(positionOf(rotated) > last).toBe(true);
    for (const { headers } of [registered, rotated]) expect(headers.get('cache-control')).toBe('no-store');
    const headers = { 'keyledger-min-position': positionOf(rotated) };
    expect((await ask('GET', endpoint, { headers })).status).toBe(200);
    const beyond = { 'keyledger-min-position': positionOf(rotated).slice(0, -4).padEnd(last.length, 'f') };
    expect((await ask('GET', endpoint, { headers: beyond })).json['code']).toBe('BEHIND');
  });
});

describe('an endpoint whose history cannot be read', () => {
  const append = (id: string, data: object, expected: number | 'no-stream') =>
    withLogAt(service.config.EVENT_STORE_URL, (log) => {
      const event = { id: randomUUID(), type: 'WebhookBlessed', data, metadata: {} };
      return log.append(webhookStream(id), [event], expected);
    });
  const listed = async () => (await ask('GET', hooks)).json['webhooks'] as Json[];

  it('is listed as such, receives nothing while another one does, and accepts only its deletion', async () => {
    const receiver = await startReceiver();
    const broken = await register({ url: `${receiver.url}/broken`, types: ['ApiKeyCreated'] });
    const sound = await register({ url: `${receiver.url}/sound`, types: ['ApiKeyCreated'] });
    await append(broken, {}, 0);
    await eventually(async () => (await listed())[0]?.['status'] === 'unavailable');
    expect(await listed()).toMatchObject([
      { id: broken, status: 'unavailable', pausedBecause: null },
      { id: sound, status: 'active' },
    ]);
    for (const name of ['one', 'two']) {
      await ask('POST', '/repo/shop/ai/apikey', { body: { name, aiType: 'AWS' } });
    }
    await eventually(() => receiver.calls.length === 2);
    expect(new Set(receiver.calls.map(({ path }) => path))).toEqual(new Set(['/hook/sound']));
    const expected = routes.map(([method]) => (method === 'GET' || method === 'DELETE' ? 200 : 409));
    expect(await statuses(`${hooks}/${broken}`, token)).toEqual(expected);
    expect(await listed()).toMatchObject([{ id: sound }]);
    await receiver.stop();
  });

  it('from its first event on is listed where its repository can be read', async () => {
    const id = randomUUID();
    await append(id, { webhookId: id, repoId: 'shop' }, 'no-stream');
    await eventually(async () => (await listed()).length === 1);
    expect(await listed()).toMatchObject([{ id, repoId: 'shop', status: 'unavailable' }]);
    expect((await ask('DELETE', `${hooks}/${id}`)).status).toBe(200);
    expect(await listed()).toEqual([]);
  });
});
