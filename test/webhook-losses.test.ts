import { randomBytes, randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { Webhook as Verifier } from 'standardwebhooks';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { exclusiveCombinations } from './support/servers/combinations.js';
import { type Receiver, startReceiver } from './support/servers/receiver.js';
import { type Json, type Running, runService } from './support/servers/service.js';

describe.each(exclusiveCombinations)('webhooks on $name', ({ name, start }) => {
  let parts: Awaited<ReturnType<typeof start>>;
  let folder: ReturnType<typeof temporaryFolder>;
  let data: string;
  let receiver: Receiver;
  let hooks: string;
  let keys: string;
  let repoId: string;
  let token: string;
  let service: Running | undefined;
  beforeEach(async () => {
    parts = await start();
    folder = temporaryFolder();
    data = join(folder.path, 'data');
    receiver = await startReceiver();
    repoId = randomUUID();
    [keys, hooks] = [`/repo/${repoId}/ai/apikey`, `/repo/${repoId}/webhook`];
  }, 120_000);
  afterEach(async () => {
    if (service) {
      const { webhooks } = (await ask('GET', hooks)).json as { webhooks: { id: string }[] };
      for (const { id } of webhooks) await ask('DELETE', `${hooks}/${id}`);
      await stop();
    }
    await receiver.stop();
    folder.remove();
    await parts.stop();
  }, 120_000);

  async function serve(settings: NodeJS.ProcessEnv = {}): Promise<void> {
    const common = { DATA_DIR: data, WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', RATE_LIMIT: '0' };
    service = await runService({ ...common, ...parts.settings, ...settings });
    token = await service.token('admin', repoId);
  }
  async function stop(): Promise<void> {
    await service?.stop();
    service = undefined;
  }
  const ask = (method: string, path: string, body?: unknown) => (service as Running).ask(method, path, { token, body });
  async function register(): Promise<{ id: string; secret: string }> {
    const body = { url: receiver.url, types: ['ApiKeyCreated'] };
    const { status, json } = await ask('POST', hooks, body);
    expect(status).toBe(201);
    return json as { id: string; secret: string };
  }
  async function createKey(): Promise<string> {
    const { status, json } = await ask('POST', keys, { name: 'key', aiType: 'AWS' });
    expect(status).toBe(201);
    return json['id'] as string;
  }
  const deliveredKeys = () => receiver.calls.map(({ event }) => (event as unknown as { subject: string }).subject);
  const webhook = async (id: string) => (await ask('GET', `${hooks}/${id}`)).json['webhook'] as Json;
  const deliveries = async (id: string) => (await ask('GET', `${hooks}/${id}/deliveries`)).json;

  /** Loses the cursors, as when someone removes the SQLite file or flushes Redis. */
  async function loseCursors(): Promise<void> {
    const { READ_MODEL_URL: url, REDIS_PREFIX: prefix } = parts.settings;
    if (url === undefined) {
      for (const suffix of ['', '-wal', '-shm']) rmSync(join(data, `deliveries.db${suffix}`), { force: true });
      return;
    }
    const redis = new Redis(url);
    let lost: string[] = [];
    await eventually(async () => {
      lost = await redis.keys(`${prefix}:{webhooks-*`);
      return lost.length > 0;
    });
    await redis.del(...lost);
    redis.disconnect();
  }

  it('whose cursors are lost while the service is down receive everything again from their registration on', async () => {
    await serve();
    const before = await createKey();
    const { id } = await register();
    const ids = [await createKey(), await createKey()];
    await eventually(async () => (await deliveries(id))['toldTo'] === receiver.calls[1]?.event.position);
    await stop();
    await loseCursors();
    await serve();
    ids.push(await createKey());
    await eventually(() => deliveredKeys().length >= 5);
    expect(deliveredKeys()).toEqual([...ids.slice(0, 2), ...ids]);
    expect(deliveredKeys()).not.toContain(before);
    expect((await deliveries(id))['deliveries']).toHaveLength(3);
  }, 120_000);

  it('whose cursors are lost repeatedly during delivery miss nothing', async () => {
    await serve();
    await register();
    const ids: string[] = [];
    for (let n = 1; n <= 12; n++) {
      ids.push(await createKey());
      if (n % 4 > 0) continue;
      await eventually(() => deliveredKeys().length >= n);
      await loseCursors();
    }
    ids.push(await createKey());
    await eventually(() => deliveredKeys().at(-1) === ids.at(-1));
    expect(new Set(deliveredKeys())).toEqual(new Set(ids));
    const places = deliveredKeys().map((key) => ids.indexOf(key));
    const wrong = places.filter((place, n) => {
      const last = places[n - 1] ?? -1;
      return place !== 0 && place !== last && place !== last + 1;
    });
    expect(wrong).toEqual([]);
  }, 120_000);

  it('that fail for longer than the setting are paused, and continue in their place when resumed', async () => {
    await serve({ WEBHOOK_RETRY_SECONDS: '1' });
    const { id } = await register();
    const first = await createKey();
    await eventually(() => deliveredKeys().length === 1);
    receiver.answer = () => ({ status: 500 });
    const ids = [await createKey(), await createKey()];
    await eventually(async () => (await webhook(id))['status'] === 'paused');
    expect((await webhook(id))['pausedBecause']).toEqual({ cause: 'failing', reason: 'It answered 500' });
    expect((await deliveries(id))['toldTo']).toBe(receiver.calls[0]?.event.position);
    const tries = deliveredKeys().slice(1);
    expect(new Set(tries)).toEqual(new Set([ids[0]]));
    receiver.answer = () => ({ status: 204 });
    ids.push(await createKey());
    expect((await ask('POST', `${hooks}/${id}/resume`)).status).toBe(200);
    await eventually(() => deliveredKeys().at(-1) === ids.at(-1));
    expect(deliveredKeys()).toEqual([first, ...tries, ...ids]);
    expect((await webhook(id))['status']).toBe('active');
    await eventually(async () => (await deliveries(id))['toldTo'] === receiver.calls.at(-1)?.event.position);
    expect((await deliveries(id))['failing']).toBeNull();
  }, 120_000);

  it('that are resumed and fail on have as long again before they are paused', async () => {
    await serve({ WEBHOOK_RETRY_SECONDS: '1' });
    receiver.answer = () => ({ status: 503 });
    const { id } = await register();
    await createKey();
    await eventually(async () => (await webhook(id))['status'] === 'paused');
    const calls = deliveredKeys().length;
    await ask('POST', `${hooks}/${id}/resume`);
    await eventually(async () => (await webhook(id))['status'] === 'paused');
    expect(deliveredKeys().length).toBeGreaterThan(calls + 1);
    const { events } = (await ask('GET', `${hooks}/${id}/history`)).json as { events: Json[] };
    expect(events.map(({ type }) => type)).toEqual([
      'WebhookRegistered',
      'WebhookPaused',
      'WebhookResumed',
      'WebhookPaused',
    ]);
  }, 120_000);

  it('whose master key was taken out are paused, not called, and mended by a new secret', async () => {
    const [k1, k2] = ['k1', 'k2'].map((name) => `${name}:${randomBytes(32).toString('base64')}`);
    await serve({ MASTER_KEYS: k1 });
    const { id, secret: old } = await register();
    await stop();
    await serve({ MASTER_KEYS: k2, WEBHOOK_RETRY_SECONDS: '1' });
    const key = await createKey();
    await eventually(async () => (await webhook(id))['status'] === 'paused');
    const reason = expect.stringContaining('cannot be opened');
    expect((await webhook(id))['pausedBecause']).toEqual({ cause: 'unsealable', reason });
    const [first] = (await deliveries(id))['deliveries'] as Json[];
    expect(first).toMatchObject({ status: null, error: reason });
    const ping = await ask('POST', `${hooks}/${id}/ping`);
    expect([ping.status, ping.json['code']]).toEqual([503, 'UNAVAILABLE']);
    expect(receiver.calls).toEqual([]);

    const rotated = await ask('POST', `${hooks}/${id}/rotate`, { overlapSeconds: 600 });
    expect(rotated.status).toBe(200);
    await ask('POST', `${hooks}/${id}/resume`);
    await eventually(() => deliveredKeys().length === 1);
    expect(deliveredKeys()).toEqual([key]);
    const secret = rotated.json['secret'] as string;
    const verify = (by: string, n: number) => {
      const { text = '', headers = {} } = receiver.calls[n] ?? {};
      return new Verifier(by).verify(text, headers);
    };
    expect(verify(secret, 0)).toEqual(receiver.calls[0]?.event);
    expect(() => verify(old, 0)).toThrow('signature');

    await stop();
    await serve({ MASTER_KEYS: `${k2},${k1}` });
    await createKey();
    await eventually(() => deliveredKeys().length === 2);
    for (const each of [secret, old]) expect(verify(each, 1)).toEqual(receiver.calls[1]?.event);
  }, 120_000);

  const whereTheLogIsAFile = name.startsWith('SQLite') ? it : it.skip;
  whereTheLogIsAFile(
    'whose log was restored from an older copy receive everything again from their registration on',
    async () => {
      const copy = join(folder.path, 'copy');
      mkdirSync(copy);
      const copyLog = (from: string, to: string) => {
        for (const file of readdirSync(to)) if (file.startsWith('keyledger.db')) rmSync(join(to, file));
        for (const file of readdirSync(from)) {
          if (file.startsWith('keyledger.db')) cpSync(join(from, file), join(to, file));
        }
      };
      await serve();
      const { id } = await register();
      const kept = await createKey();
      await eventually(() => deliveredKeys().length === 1);
      await stop();
      copyLog(data, copy);
      await serve();
      const lost = [await createKey(), await createKey()];
      await eventually(() => deliveredKeys().length === 3);
      await stop();
      copyLog(copy, data);
      await serve();
      const ids = [kept, await createKey(), await createKey(), await createKey()];
      await eventually(() => deliveredKeys().at(-1) === ids.at(-1));
      expect(deliveredKeys()).toEqual([kept, ...lost, ...ids]);
      await eventually(async () => (await deliveries(id))['toldTo'] === receiver.calls.at(-1)?.event.position);
    },
    60_000,
  );
});
