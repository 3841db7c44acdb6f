import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { webhookStream } from '../src/domain/webhook.js';
import { openEventStore } from '../src/event-store/open.js';
import { eventually } from './eventually.js';
import { startReceiver } from './receiver.js';
import { type Json, type Running, runService } from './service.js';

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
const register = async (body: Json = {}) =>
  (await ask('POST', hooks, { url, ...body })).json as { id: string };
const shown = async (id: string) => (await ask('GET', `${hooks}/${id}`)).json['webhook'] as Json;

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
    expect(await shown(id)).toMatchObject({ types: ['ApiKeyCreated', 'ApiKeyDeleted'], description: null });
    await say('PUT', '');
    await say('PUT', '', { types: null });
    await say('POST', '/pause', { reason: ' maintenance ' });
    expect(await shown(id)).toMatchObject({
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

  it('is registered once for one Idempotency-Key', async () => {
    const once = { 'idempotency-key': 'once' };
    const [first, ...answers] = await Promise.all(
      Array.from({ length: 5 }, () => ask('POST', hooks, { url }, once)),
    );
    if (!first) throw new Error('There is no answer');
    expect(first.status).toBe(201);
    for (const answer of answers) expect([answer.status, answer.text]).toEqual([201, first.text]);
    expect((await ask('POST', hooks, { url, description: 'other' }, once)).json).toMatchObject({
      code: 'IDEMPOTENCY_KEY_REUSED',
    });
    const { id } = first.json as { id: string };
    await ask('DELETE', `${hooks}/${id}`);
    expect((await ask('POST', hooks, { url }, once)).json).toMatchObject({
      code: 'IDEMPOTENCY_KEY_USED',
      id,
    });
  });

  it('is given a new secret once for one Idempotency-Key', async () => {
    const { id } = await register();
    const rotate = (body: Json, headers: Record<string, string>) =>
      ask('POST', `${hooks}/${id}/rotate`, body, headers);
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

  it('that is not in the repository is not found, and another repository is forbidden', async () => {
    const { id } = await register();
    const other = await service.token('admin', 'bank');
    for (const path of [
      `/repo/bank/webhook/${id}`,
      '/repo/bank/webhook/none',
      `${'/repo/bank/webhook'}/${randomUUID()}`,
    ]) {
      const { status, json } = await service.ask('GET', path, { token: other });
      expect([status, json['code']]).toEqual([404, 'WEBHOOK_NOT_FOUND']);
      expect((await service.ask('DELETE', path, { token: other })).status).toBe(404);
    }
    expect((await service.ask('GET', hooks, { token: other })).status).toBe(403);
    expect((await service.ask('GET', hooks, {})).status).toBe(401);
    expect((await ask('PATCH', `${hooks}/${id}`)).status).toBe(405);
  });

  it('is changed by admins, and seen by auditors too', async () => {
    const { id } = await register();
    const may = async (role: string) => {
      const as = await service.token(role);
      const answers = [
        await service.ask('GET', hooks, { token: as }),
        await service.ask('GET', `${hooks}/${id}/deliveries`, { token: as }),
        await service.ask('GET', `${hooks}/${id}/history`, { token: as }),
        await service.ask('POST', `${hooks}/${id}/ping`, { token: as }),
        await service.ask('PUT', `${hooks}/${id}`, { token: as }),
      ];
      return answers.map(({ status }) => status);
    };
    expect(await may('admin')).toEqual([200, 200, 200, 200, 200]);
    expect(await may('auditor')).toEqual([200, 200, 200, 403, 403]);
    for (const role of ['viewer', 'verifier', 'replica']) {
      expect(await may(role)).toEqual([403, 403, 403, 403, 403]);
    }
  });

  it('is shown as it was at a position, or not at all', async () => {
    const { headers } = await ask('POST', hooks, { url });
    const position = headers.get('keyledger-position') as string;
    const at = (minimum: string) => ask('GET', hooks, undefined, { 'keyledger-min-position': minimum });
    expect((await at(position)).json['webhooks']).toHaveLength(1);
    expect((await at('x')).json).toMatchObject({ code: 'INVALID_INPUT' });
    expect((await at(position.replace(/:./, ':f'))).json).toMatchObject({ code: 'BEHIND' });
  });

  it('with a history that cannot be read is told nothing, and takes no change but its deletion', async () => {
    await service.stop();
    await start({ WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1/32' });
    const receiver = await startReceiver();
    const { id } = await register({ url: receiver.url });
    const log = await openEventStore(
      service.config.EVENT_STORE_URL,
      () => undefined,
      () => undefined,
    );
    const event = { id: randomUUID(), type: 'WebhookBlessed', data: {}, metadata: {} };
    await log.append(webhookStream(id), [event], 0);
    await log.close();
    await eventually(async () => (await shown(id))['status'] === 'unavailable');
    await ask('POST', '/repo/shop/ai/apikey', { name: 'x', aiType: 'AWS' });
    for (const [method, path] of [
      ['PUT', ''],
      ['POST', '/pause'],
      ['POST', '/resume'],
      ['POST', '/rotate'],
      ['POST', '/ping'],
    ] as const) {
      const { status, json } = await ask(method, `${hooks}/${id}${path}`);
      expect([path, status, json['code']]).toEqual([path, 409, 'WEBHOOK_QUARANTINED']);
    }
    expect((await ask('DELETE', `${hooks}/${id}`)).status).toBe(200);
    expect(receiver.calls).toEqual([]);
    await receiver.stop();
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
    expect((audit.json['events'] as Json[]).map(({ type }) => type)).toEqual([
      'WebhookDeleted',
      'WebhookRegistered',
    ]);
    const { events: feed } = (
      await ask('GET', '/events?after=start&type=AuditAccessed', undefined, { accept: 'application/json' })
    ).json as { events: { data: Json }[] };
    expect(feed[0]?.data).toMatchObject({ access: 'history', query: { webhookId: id } });
  });
});
