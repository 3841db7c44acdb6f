import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { accessesOf } from './support/assertions/audit-accesses.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const hooks = '/repo/shop/webhook';
const url = 'https://hooks.example/keys';
let service: Running;
let token: string;
const start = async (settings: NodeJS.ProcessEnv = {}) => {
  service = await runService(settings);
  token = await service.token('admin');
};
beforeEach(() => start());
afterEach(() => service.stop());

const ask = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  service.ask(method, path, { token, body, ...(headers ? { headers } : {}) });
const register = async (body: Json = {}) => (await ask('POST', hooks, { url, ...body })).json as { id: string };
const fetchWebhook = async (id: string) => (await ask('GET', `${hooks}/${id}`)).json['webhook'] as Json;

describe('an endpoint', () => {
  it('is registered, shown, changed, paused, resumed, rotated and deleted', async () => {
    const registered = await ask('POST', hooks, { url: 'https://HOOKS.example', description: ' billing ' });
    expect(registered.status).toBe(201);
    const { id } = registered.json as { id: string };
    expect(registered.json).toEqual({
      success: true,
      id,
      secret: expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/),
    });
    expect(registered.headers.get('keyledger-position')).toMatch(/:/);
    const webhook = {
      id,
      repoId: 'shop',
      url: 'https://hooks.example/',
      types: null,
      description: 'billing',
      status: 'active',
      pausedBecause: null,
      createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
    };
    expect((await ask('GET', hooks)).json).toEqual({ success: true, webhooks: [webhook] });
    expect((await ask('GET', `${hooks}/${id}`)).json).toEqual({ success: true, webhook });

    const messages: unknown[] = [];
    const say = async (method: string, path: string, body?: unknown) => {
      const { status, json } = await ask(method, `${hooks}/${id}${path}`, body);
      expect([method, path, status]).toEqual([method, path, 200]);
      messages.push(json['message'] ?? json);
    };
    await say('PUT', '', { types: ['ApiKeyDeleted', 'ApiKeyCreated', 'ApiKeyDeleted'], description: '' });
    expect(await fetchWebhook(id)).toMatchObject({
      types: ['ApiKeyCreated', 'ApiKeyDeleted'],
      description: null,
    });
    await say('PUT', '');
    await say('PUT', '', { types: null });
    await say('POST', '/pause', { reason: ' maintenance ' });
    expect(await fetchWebhook(id)).toMatchObject({
      status: 'paused',
      pausedBecause: { cause: 'requested', reason: 'maintenance' },
    });
    await say('POST', '/pause');
    await say('POST', '/resume');
    await say('POST', '/resume');
    await say('POST', '/rotate');
    await say('POST', '/replay', { after: 'start' });
    await say('DELETE', '');
    expect(messages).toEqual([
      'Webhook changed',
      'Nothing to change',
      'Webhook changed',
      'Webhook paused',
      'Webhook was paused already',
      'Webhook resumed',
      'Webhook was not paused',
      { success: true, id, secret: expect.stringMatching(/^whsec_/) },
      'Webhook set to this position',
      'Webhook deleted',
    ]);
    expect((await ask('GET', hooks)).json).toEqual({ success: true, webhooks: [] });
  });

  it('is given a new secret once for one Idempotency-Key', async () => {
    const { id } = await register();
    const rotate = (body: Json, headers: Record<string, string>) => ask('POST', `${hooks}/${id}/rotate`, body, headers);
    const once = { 'idempotency-key': 'once' };
    const first = await rotate({ overlapSeconds: 60 }, once);
    const answers = [await rotate({ overlapSeconds: 60 }, once), await rotate({ overlapSeconds: 60 }, once)];
    for (const answer of answers) expect([answer.status, answer.text]).toEqual([200, first.text]);
    expect((await rotate({}, once)).json).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' });
    expect((await rotate({}, { 'idempotency-key': 'twice' })).json['secret']).not.toBe(first.json['secret']);
    expect((await rotate({ overlapSeconds: 60 }, once)).json).toMatchObject({
      code: 'IDEMPOTENCY_KEY_USED',
      id,
    });
  });

  it.each([
    ['POST', '', { url: 'http://hooks.example/' }, 'url'],
    ['POST', '', { url: 'https://user:secret@hooks.example/' }, 'url'],
    ['POST', '', { url: 'https://hooks.example/#top' }, 'url'],
    ['POST', '', { url: `https://hooks.example/${'x'.repeat(2048)}` }, 'url'],
    ['POST', '', { url: `https://hooks.example/${'ü'.repeat(500)}` }, 'url'],
    ['POST', '', { url: 'https://hooks.example/#' }, 'url'],
    ['PUT', '/ID', { url: 'https://hooks.example/#' }, 'url'],
    ['POST', '', { url: 'javascript:alert(1)' }, 'url'],
    ['POST', '', { url: 'hooks.example' }, 'url'],
    ['POST', '', { url: 7 }, 'url'],
    ['POST', '', {}, 'url'],
    ['POST', '', { url, types: [] }, 'types'],
    ['POST', '', { url, types: ['ApiKeyBlessed'] }, 'types'],
    ['POST', '', { url, types: 'ApiKeyCreated' }, 'types'],
    ['POST', '', { url, description: 'x'.repeat(201) }, 'description'],
    ['POST', '', { url, description: 'a\nb' }, 'description'],
    ['PUT', '/ID', { url: null }, 'url'],
    ['PUT', '/ID', { types: [] }, 'types'],
    ['POST', '/ID/rotate', { overlapSeconds: -1 }, 'overlapSeconds'],
    ['POST', '/ID/rotate', { overlapSeconds: 31 * 86_400 }, 'overlapSeconds'],
    ['POST', '/ID/pause', { reason: 7 }, 'reason'],
    ['POST', '/ID/replay', {}, 'after'],
    ['POST', '/ID/replay', { after: 5 }, 'after'],
  ])('is not made or changed by what is wrong: %s %s %j', async (method, path, body, field) => {
    const { id } = await register();
    const { status, json } = await ask(method, hooks + path.replace('ID', id), body);
    expect([status, json['code']]).toEqual([400, 'INVALID_INPUT']);
    expect(json['message']).toContain(field);
    expect(((await ask('GET', hooks)).json['webhooks'] as Json[]).length).toBe(1);
  });

  it('may be http only where networks of one’s own are allowed', async () => {
    await service.stop();
    await start({ WEBHOOK_ALLOWED_NETWORKS: '10.0.0.0/8' });
    expect((await ask('POST', hooks, { url: 'http://10.1.2.3/' })).status).toBe(201);
  });

  it('is shown as it was at a position, or not at all', async () => {
    const { headers } = await ask('POST', hooks, { url });
    const position = headers.get('keyledger-position') as string;
    const at = (minimum: string) => ask('GET', hooks, undefined, { 'keyledger-min-position': minimum });
    expect((await at(position)).json['webhooks']).toHaveLength(1);
    expect((await at('x')).json).toMatchObject({ code: 'INVALID_INPUT' });
    expect((await at(position.replace(/:./, ':f'))).json).toMatchObject({ code: 'BEHIND' });
  });
});

describe('an Idempotency-Key', () => {
  const once = { 'idempotency-key': 'once' };
  const again = (body: Json = { url }, headers: Record<string, string> = once) => ask('POST', hooks, body, headers);

  it('gets the same answer while its secret is the one that signs; who got it again is written down', async () => {
    const first = await again({ url, types: ['ApiKeyDeleted', 'ApiKeyCreated'] });
    const { id, secret } = first.json as { id: string; secret: string };
    expect((await accessesOf(service.config)).length).toBe(0);
    await ask('PUT', `${hooks}/${id}`, { url: 'https://v2.example/' });
    await ask('POST', `${hooks}/${id}/pause`);
    // Types in the order of storage, and the URL in its normal form.
    const sameRequest = { url: 'https://HOOKS.example/keys', types: ['ApiKeyCreated', 'ApiKeyDeleted'] };
    const repeated = await again(sameRequest);
    expect([repeated.status, repeated.text]).toEqual([201, first.text]);
    expect(repeated.headers.get('cache-control')).toBe('no-store');
    expect(await accessesOf(service.config)).toMatchObject([
      { data: { access: 'repeated-secret', repoId: 'shop', query: { webhookId: id } } },
    ]);
    const other = await again({ url });
    expect([other.status, other.json['code']]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    await ask('POST', `${hooks}/${id}/rotate`, { overlapSeconds: 60 });
    const late = await again(sameRequest);
    expect([late.status, late.json['code'], late.json['id']]).toEqual([409, 'IDEMPOTENCY_KEY_USED', id]);
    expect(late.text).not.toContain(secret);
    expect((await ask('GET', hooks)).json['webhooks']).toHaveLength(1);
  });

  it('is one of its caller and its repository, and no failure uses it up', async () => {
    expect((await again({ url: 'x' })).status).toBe(400);
    const [mine, others] = [
      await again(),
      await service.ask('POST', hooks, {
        token: await service.token('admin', 'shop', 'bob'),
        body: { url },
        headers: once,
      }),
    ];
    const elsewhere = await service.ask('POST', '/repo/bank/webhook', {
      token: await service.token('admin', 'bank'),
      body: { url },
      headers: once,
    });
    const ids = [mine, others, elsewhere].map(({ status, json }) => [status, json['id']].join());
    expect(new Set(ids).size).toBe(3);
    for (const each of ids) expect(each).toMatch(/^201,/);
    for (const wrong of ['', 'x'.repeat(256)]) {
      const { status, json } = await again({ url }, { 'idempotency-key': wrong });
      expect([status, json['message']]).toEqual([400, expect.stringMatching(/idempotency-key/i)]);
    }
  });

  it('registers one endpoint, however many instances are asked at once', async () => {
    const { EVENT_STORE_URL } = service.config;
    const MASTER_KEYS_FILE = join(service.folder, 'master.keys');
    const second = await runService({ EVENT_STORE_URL, MASTER_KEYS_FILE });
    const there = await second.token('admin');
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        i % 2 ? again() : second.ask('POST', hooks, { token: there, body: { url }, headers: once }),
      ),
    );
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(201);
    const headers = { 'keyledger-min-position': answers[0]?.headers.get('keyledger-position') ?? '' };
    for (const listed of [
      await ask('GET', hooks, undefined, headers),
      await second.ask('GET', hooks, { token: there, headers }),
    ]) {
      expect(listed.json['webhooks']).toHaveLength(1);
    }
    await second.stop();
  });
});

describe('the history of an endpoint', () => {
  it('tells what changed, by whom and from what to what, never a secret, and who looked is written down', async () => {
    const { id } = await register();
    await ask('PUT', `${hooks}/${id}`, { types: ['ApiKeyDeleted', 'ApiKeyCreated'] });
    await ask('POST', `${hooks}/${id}/rotate`, { overlapSeconds: 60 });
    await ask('POST', `${hooks}/${id}/pause`, { reason: 'maintenance' });
    await ask('POST', `${hooks}/${id}/replay`, { after: 'start' });
    await ask('DELETE', `${hooks}/${id}`);
    const { status, json, text } = await ask('GET', `${hooks}/${id}/history`);
    expect(status).toBe(200);
    const events = json['events'] as Json[];
    expect(events.map(({ type, changes, reason }) => [type, changes, reason])).toEqual([
      [
        'WebhookRegistered',
        {
          repoId: { from: null, to: 'shop' },
          url: { from: null, to: url },
          status: { from: null, to: 'active' },
          secretVersion: { from: null, to: 1 },
        },
        undefined,
      ],
      ['WebhookChanged', { types: { from: null, to: 'ApiKeyCreated,ApiKeyDeleted' } }, undefined],
      [
        'WebhookSecretRotated',
        { secretVersion: { from: 1, to: 2 }, overlapEndsAt: { from: null, to: expect.any(String) } },
        undefined,
      ],
      [
        'WebhookPaused',
        { status: { from: 'active', to: 'paused' }, pausedBecause: { from: null, to: 'requested' } },
        'maintenance',
      ],
      ['WebhookReplayed', { replayedAfter: { from: null, to: 'start' } }, undefined],
      [
        'WebhookDeleted',
        { status: { from: 'paused', to: 'deleted' }, pausedBecause: { from: 'requested', to: null } },
        undefined,
      ],
    ]);
    for (const event of events) expect(event).toMatchObject({ webhookId: id, apiKeyId: null });
    expect(text).not.toMatch(/whsec|ealed|Hash/);
    const audit = await ask('GET', '/repo/shop/ai/audit?type=WebhookRegistered,WebhookDeleted');
    expect((audit.json['events'] as Json[]).map(({ type }) => type)).toEqual(['WebhookDeleted', 'WebhookRegistered']);
    const { events: feed } = (
      await ask('GET', '/events?after=start&type=AuditAccessed', undefined, { accept: 'application/json' })
    ).json as { events: { data: Json }[] };
    expect(feed[0]?.data).toMatchObject({ access: 'history', query: { webhookId: id } });
  });
});
