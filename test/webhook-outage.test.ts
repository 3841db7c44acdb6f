import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { eventually } from './support/assertions/eventually.js';
import { type Receiver, startReceiver } from './support/servers/receiver.js';
import { type RedisServer, redisSource, startRedis } from './support/servers/redis-server.js';
import { type Running, runService } from './support/servers/service.js';
import { TcpProxy } from './support/servers/tcp-proxy.js';

const [hooks, keys] = ['/repo/shop/webhook', '/repo/shop/ai/apikey'];

const whereThereIsRedis = redisSource ? describe : describe.skip;
whereThereIsRedis('webhooks whose cursors are in a Redis that becomes unavailable', () => {
  let redis: RedisServer;
  let proxy: TcpProxy;
  let admin: Redis;
  let service: Running;
  let receiver: Receiver;
  let token: string;
  beforeEach(async () => {
    redis = await startRedis();
    const { hostname, port } = new URL(redis.url);
    proxy = new TcpProxy({ host: hostname, port: Number(port || 6379) });
    const url = `redis://127.0.0.1:${await proxy.start()}`;
    admin = new Redis(redis.url);
    receiver = await startReceiver();
    service = await runService({ READ_MODEL_URL: url, WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' });
    token = await service.token('admin');
  }, 60_000);
  afterEach(async () => {
    await service.stop();
    await receiver.stop();
    admin.disconnect();
    await proxy.stop().catch(() => undefined);
    await redis.stop();
  }, 60_000);

  const ask = (method: string, path: string, body?: unknown) => service.ask(method, path, { token, body });
  const register = async () => {
    const body = { url: receiver.url, types: ['ApiKeyCreated'] };
    return (await ask('POST', hooks, body)).json['id'] as string;
  };
  const createKey = async () => (await ask('POST', keys, { name: 'key', aiType: 'AWS' })).json['id'] as string;
  const deliveredKeys = () => receiver.calls.map(({ event }) => (event as unknown as { subject: string }).subject);
  const isUnavailable = (id: string) =>
    eventually(async () => (await ask('GET', `${hooks}/${id}/deliveries`)).status === 503);

  it('receive what happened meanwhile when it is back, in order and with nothing missed', async () => {
    const id = await register();
    const ids = [await createKey()];
    await eventually(() => deliveredKeys().length === 1);
    await proxy.stop();
    await isUnavailable(id);
    for (let n = 0; n < 3; n++) ids.push(await createKey());
    await proxy.start();
    await eventually(() => deliveredKeys().at(-1) === ids.at(-1));
    expect(deliveredKeys().filter((key, n) => key !== deliveredKeys()[n - 1])).toEqual(ids);
  }, 60_000);

  it('leave nothing there when they are deleted meanwhile', async () => {
    const id = await register();
    await createKey();
    await eventually(async () => (await admin.keys(`*:cursor:${id}`)).length === 1);
    await proxy.stop();
    await isUnavailable(id);
    expect((await ask('DELETE', `${hooks}/${id}`)).status).toBe(200);
    await proxy.start();
    await eventually(async () => (await admin.keys(`*:${id}`)).length === 0);
    await createKey();
    expect(deliveredKeys()).toHaveLength(1);
  }, 60_000);
});
