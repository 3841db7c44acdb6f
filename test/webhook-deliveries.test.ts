import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Webhook as Verifier } from 'standardwebhooks';
import { eventually } from './support/assertions/eventually.js';
import { exclusiveCombinations } from './support/servers/combinations.js';
import { type Receiver, startReceiver } from './support/servers/receiver.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const ALLOW = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };

describe.each(exclusiveCombinations)('webhooks on $name', ({ start }) => {
  let parts: Awaited<ReturnType<typeof start>>;
  let service: Running;
  let receiver: Receiver;
  let token: string;
  /** A repository of its own for each test, because suites share logs. */
  let keys: string;
  let hooks: string;
  beforeEach(async () => {
    parts = await start();
    service = await runService({ ...parts.settings, ...ALLOW });
    receiver = await startReceiver();
    const repoId = randomUUID();
    [keys, hooks] = [`/repo/${repoId}/ai/apikey`, `/repo/${repoId}/webhook`];
    token = await service.token('admin', repoId);
  }, 120_000);
  afterEach(async () => {
    const { webhooks } = (await ask('GET', hooks)).json as { webhooks: { id: string }[] };
    for (const { id } of webhooks) await ask('DELETE', `${hooks}/${id}`);
    await receiver.stop();
    await service.stop();
    await parts.stop();
  }, 120_000);

  const ask = (method: string, path: string, body?: unknown) => service.ask(method, path, { token, body });
  async function register(more: Json = {}): Promise<{ id: string; secret: string }> {
    const { status, json } = await ask('POST', hooks, { url: receiver.url, ...more });
    expect(status).toBe(201);
    return json as { id: string; secret: string };
  }
  async function createKeys(count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let i = 0; i < count; i++) {
      const { json } = await ask('POST', keys, { name: `key ${i}`, aiType: 'AWS' });
      ids.push(json['id'] as string);
    }
    return ids;
  }
  const typesOf = () => receiver.calls.map(({ event }) => event.type);
  const subjects = () => receiver.calls.map(({ event }) => (event as Json)['subject']);
  const deliveries = async (id: string) => (await ask('GET', `${hooks}/${id}/deliveries`)).json;
  const statusOf = async (id: string) => ((await ask('GET', `${hooks}/${id}`)).json['webhook'] as Json)['status'];

  it('do not call a receiver because it reads the audit, unless it asks for that by name', async () => {
    await register();
    const named = await startReceiver();
    await register({ url: named.url, types: ['AuditAccessed'] });
    receiver.answer = () => {
      void ask('GET', keys.replace('/apikey', '/audit'));
      return { status: 204 };
    };
    const [first] = await createKeys(1);
    await eventually(() => named.calls.length >= 2);
    await ask('DELETE', `${keys}/${first}`);
    await eventually(() => typesOf().includes('ApiKeyDeleted'));
    expect(typesOf()).toEqual(['WebhookRegistered', 'ApiKeyCreated', 'ApiKeyDeleted']);
    expect(new Set(named.calls.map(({ event }) => event.type))).toEqual(new Set(['AuditAccessed']));
    await named.stop();
  });

  it('tell an endpoint what happens from its registration on, signed, in order, and nothing of other repositories', async () => {
    await createKeys(1);
    const { id, secret } = await register();
    const other = await service.token('admin', 'other');
    const body = { name: 'x', aiType: 'AWS' };
    await service.ask('POST', '/repo/other/ai/apikey', { token: other, body });
    const ids = await createKeys(3);
    await ask('DELETE', `${keys}/${ids[0]}`);
    await eventually(() => receiver.calls.length >= 4);
    expect(subjects()).toEqual([...ids, ids[0]]);
    expect(typesOf()).toEqual(['ApiKeyCreated', 'ApiKeyCreated', 'ApiKeyCreated', 'ApiKeyDeleted']);
    const verifier = new Verifier(secret);
    for (const { headers, text, event } of receiver.calls) {
      expect(verifier.verify(text, headers)).toEqual(event);
      expect(headers['webhook-id']).toBe(event.id);
      expect(headers['content-type']).toBe('application/json');
      expect(text).not.toContain('ealed');
      expect(text).not.toContain('Hash');
    }
    const { deliveries: attempts, toldTo, failing } = await deliveries(id);
    expect(attempts).toHaveLength(4);
    expect(attempts).toMatchObject([{ type: 'ApiKeyDeleted', status: 204, error: null }, {}, {}, {}]);
    expect([toldTo, failing]).toEqual([receiver.calls[3]?.event.position, null]);
  });

  it('tell what an endpoint asks for, and another at once when that is changed', async () => {
    const { id } = await register({ types: ['ApiKeyDeleted'] });
    const [first, second] = await createKeys(2);
    await ask('DELETE', `${keys}/${first}`);
    await eventually(() => receiver.calls.length === 1);
    expect((await ask('PUT', `${hooks}/${id}`, { types: null })).json['message']).toBe('Webhook changed');
    await ask('DELETE', `${keys}/${second}`);
    await eventually(() => subjects().includes(second as string));
    expect(typesOf()).toEqual(['ApiKeyDeleted', 'WebhookChanged', 'ApiKeyDeleted']);
  });

  it('tell nothing of the time before more types were asked for', async () => {
    const { id } = await register({ types: ['ApiKeyDeleted'] });
    const [first] = await createKeys(3);
    await ask('DELETE', `${keys}/${first}`);
    await eventually(() => receiver.calls.length === 1);
    await createKeys(3);
    await ask('PUT', `${hooks}/${id}`, { types: null });
    const [made] = await createKeys(1);
    await eventually(() => subjects().includes(made as string));
    expect(typesOf()).toEqual(['ApiKeyDeleted', 'WebhookChanged', 'ApiKeyCreated']);
  });

  it('are not paused by what they answered where they were before', async () => {
    receiver.answer = ({ path }) => ({ status: path === '/hook' ? 410 : 204 });
    const letGo = receiver.hold('/hook');
    const { id } = await register({ types: ['ApiKeyCreated'] });
    const [made] = await createKeys(1);
    await eventually(() => receiver.calls.length === 1);
    const url = receiver.url.replace('/hook', '/new');
    expect(await ask('PUT', `${hooks}/${id}`, { url })).toMatchObject({ status: 200 });
    letGo();
    await eventually(() => receiver.calls.some(({ path }) => path === '/new'));
    expect(subjects()).toEqual([made, made]);
    expect(await statusOf(id)).toBe('active');
  });

  it('repeat what was not accepted, before anything that follows it', async () => {
    let refused = 0;
    receiver.answer = () => ({ status: refused++ < 2 ? 500 : 200 });
    const { id } = await register();
    const ids = await createKeys(2);
    await eventually(() => receiver.calls.length >= 4);
    expect(subjects()).toEqual([ids[0], ids[0], ids[0], ids[1]]);
    expect(new Set(receiver.calls.slice(0, 3).map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    const { deliveries: attempts } = await deliveries(id);
    expect((attempts as Json[]).map(({ status }) => status)).toEqual([200, 200, 500, 500]);
  });

  it('that fail delay no other, and say so', async () => {
    receiver.answer = ({ path }) => (path === '/hook' ? { status: 200 } : 'silence');
    await register({ url: `${receiver.url}/silent` });
    const closed = await startReceiver();
    await closed.stop();
    const dead = await register({ url: closed.url });
    await register();
    const ids = await createKeys(3);
    await eventually(() => receiver.calls.filter(({ path }) => path === '/hook').length === 3);
    await eventually(async () => (await deliveries(dead.id))['failing'] !== null);
    expect(await deliveries(dead.id)).toMatchObject({
      failing: { tries: expect.any(Number) },
      deliveries: expect.arrayContaining([
        expect.objectContaining({ status: null, error: expect.stringContaining('ECONNREFUSED') }),
      ]),
    });
    expect(ids).toHaveLength(3);
  });

  it('are paused at once by a 410, keep their place, and continue there when resumed', async () => {
    receiver.answer = () => ({ status: receiver.calls.length === 1 ? 200 : 410 });
    const { id } = await register({ types: ['ApiKeyCreated'] });
    const ids = await createKeys(3);
    await eventually(async () => (await statusOf(id)) === 'paused');
    expect(((await ask('GET', `${hooks}/${id}`)).json['webhook'] as Json)['pausedBecause']).toEqual({
      cause: 'gone',
      reason: null,
    });
    expect(receiver.calls).toHaveLength(2);
    receiver.answer = () => ({ status: 200 });
    expect((await ask('POST', `${hooks}/${id}/resume`)).json['message']).toBe('Webhook resumed');
    await eventually(() => receiver.calls.length === 4);
    expect(subjects()).toEqual([ids[0], ids[1], ids[1], ids[2]]);
    const { events } = (await ask('GET', `${hooks}/${id}/history`)).json as { events: Json[] };
    expect(events.map(({ type, actor }) => [type, (actor as Json)['issuer']])).toEqual([
      ['WebhookRegistered', 'keyledger'],
      ['WebhookPaused', 'keyledger:webhooks'],
      ['WebhookResumed', 'keyledger'],
    ]);
  });

  it('are replayed from after a position, or from the start', async () => {
    const [early] = await createKeys(1);
    const { id } = await register({ types: ['ApiKeyCreated'] });
    const ids = await createKeys(3);
    await eventually(() => receiver.calls.length === 3);
    const { position } = receiver.calls[0]?.event ?? {};
    await ask('POST', `${hooks}/${id}/replay`, { after: position });
    await eventually(() => receiver.calls.length === 5);
    expect(subjects().slice(3)).toEqual(ids.slice(1));
    await ask('POST', `${hooks}/${id}/replay`, { after: 'start' });
    await eventually(() => receiver.calls.length === 9);
    expect(subjects().slice(5)).toEqual([early, ...ids]);
    const answers = [
      await ask('POST', `${hooks}/${id}/replay`, { after: 'yesterday' }),
      await ask('POST', `${hooks}/${id}/replay`, { after: `${randomUUID()}:0000000000000001` }),
      await ask('POST', `${hooks}/${id}/replay`, { after: position?.replace(/:./, ':f') }),
    ];
    expect(answers.map(({ status, json }) => [status, json['code']])).toEqual([
      [400, 'INVALID_INPUT'],
      [409, 'OTHER_LOG'],
      [409, 'OTHER_LOG'],
    ]);
  });

  it('sign with the old and the new secret while they overlap', async () => {
    const { id, secret: old } = await register({ types: ['ApiKeyCreated'] });
    const rotated = await ask('POST', `${hooks}/${id}/rotate`, { overlapSeconds: 600 });
    await createKeys(1);
    await eventually(() => receiver.calls.length === 1);
    const [call] = receiver.calls;
    for (const secret of [old, rotated.json['secret'] as string]) {
      expect(new Verifier(secret).verify(call?.text ?? '', call?.headers ?? {})).toEqual(call?.event);
    }
    await ask('POST', `${hooks}/${id}/rotate`);
    await createKeys(1);
    await eventually(() => receiver.calls.length === 2);
    const [, last] = receiver.calls;
    expect(() => new Verifier(old).verify(last?.text ?? '', last?.headers ?? {})).toThrow();
  });

  it('can be tested with a ping, paused ones too', async () => {
    const { id, secret } = await register();
    await ask('POST', `${hooks}/${id}/pause`, { reason: 'maintenance' });
    expect((await ask('POST', `${hooks}/${id}/ping`)).json).toMatchObject({ delivered: true, status: 204 });
    const [call] = receiver.calls;
    expect(call?.event.type).toBe('WebhookPing');
    expect(() => new Verifier(secret).verify(call?.text ?? '', call?.headers ?? {})).not.toThrow();
    receiver.answer = () => ({ status: 302, headers: { location: 'http://127.0.0.1:1/' } });
    expect((await ask('POST', `${hooks}/${id}/ping`)).json).toMatchObject({ delivered: false, status: 302 });
    expect((await deliveries(id))['deliveries']).toEqual([]);
  });

  it('that are deleted are called no more, and are not found', async () => {
    const { id } = await register();
    await ask('DELETE', `${hooks}/${id}`);
    await createKeys(1);
    const marker = await register({ types: ['ApiKeyCreated'] });
    await createKeys(1);
    await eventually(() => receiver.calls.length > 0);
    expect(receiver.calls).toHaveLength(1);
    expect(marker.id).not.toBe(id);
    for (const [method, path] of [
      ['GET', ''],
      ['PUT', ''],
      ['DELETE', ''],
      ['POST', '/pause'],
      ['POST', '/resume'],
      ['POST', '/rotate'],
      ['POST', '/ping'],
      ['GET', '/deliveries'],
    ] as const) {
      const { status, json } = await ask(method, `${hooks}/${id}${path}`);
      expect([method, path, status, json['code']]).toEqual([method, path, 404, 'WEBHOOK_NOT_FOUND']);
    }
  });
});
