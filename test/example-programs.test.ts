import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { type Running, runService, tokenFor } from './support/servers/service.js';

let service: Running;
let admin: string;
const children: ChildProcess[] = [];
beforeEach(async () => {
  service = await runService({ WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1/32' });
  admin = await service.token('admin');
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill();
    await once(child, 'exit');
  }
  await service.stop();
});

/** Runs an example until it listens. @returns its address, and what it prints */
async function run(name: string, environment: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [`examples/${name}`], {
    env: { PATH: process.env['PATH'], PORT: '0', ...environment },
  });
  children.push(child);
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
  }
  await eventually(() => /listens on/.test(printed) || child.exitCode !== null);
  const url = /listens on (\S+)/.exec(printed)?.[1];
  if (!url) throw new Error(printed);
  const end = async () => {
    children.splice(children.indexOf(child), 1);
    child.kill();
    await once(child, 'exit');
  };
  return { url, printed: () => printed, end };
}

const keys = '/repo/shop/ai/apikey';
const create = async () => {
  const { json } = await service.ask('POST', keys, { token: admin, body: { name: 'search', aiType: 'AWS' } });
  return json as { id: string; key: string; secret: string };
};

it('the gateway says that its token has expired', async () => {
  const token = await tokenFor(service.config, { shop: 'replica' }, 'gateway', 3);
  const { printed } = await run('gateway.mjs', { BASE_URL: service.url, TOKEN: token });
  await eventually(() => /this one expired at /.test(printed()));
});

it('the gateway reports when a key was last used before it ends', async () => {
  const { id, key, secret } = await create();
  const { url, end } = await run('gateway.mjs', {
    BASE_URL: service.url,
    TOKEN: await service.token('replica'),
  });
  const authorization = `Basic ${Buffer.from(`${key}:${secret}`).toString('base64')}`;
  expect((await fetch(url, { headers: { authorization } })).status).toBe(200);
  await end();
  const { json } = await service.ask('GET', `${keys}/${id}`, { token: admin });
  expect(json['apiKey']).toHaveProperty('lastUsedAt');
});

it('the gateway lets a good key through, and a deleted one no more', async () => {
  const { id, key, secret } = await create();
  const { url } = await run('gateway.mjs', { BASE_URL: service.url, TOKEN: await service.token('replica') });
  const call = (password: string) =>
    fetch(url, {
      headers: { authorization: `Basic ${Buffer.from(`${key}:${password}`).toString('base64')}` },
    });
  expect(await (await call(secret)).text()).toBe('Hello, search of shop\n');
  expect((await call('secret_wrong')).status).toBe(401);
  expect((await fetch(url)).status).toBe(401);
  await service.ask('DELETE', `${keys}/${id}`, { token: admin });
  await eventually(async () => (await call(secret)).status === 401);
});

it('the receiver of webhooks takes what Keyledger signed, once, and nothing else', async () => {
  const hooks = '/repo/shop/webhook';
  const body = { url: 'http://127.0.0.1:1/', types: ['ApiKeyCreated'] };
  const { id, secret } = (await service.ask('POST', hooks, { token: admin, body })).json;
  const { url, printed } = await run('webhook-receiver.mjs', { SECRET: secret as string });
  await service.ask('PUT', `${hooks}/${id}`, { token: admin, body: { url } });
  const made = await create();
  await eventually(() => printed().includes(`ApiKeyCreated ${made.id}`));
  await service.ask('POST', `${hooks}/${id}/replay`, { token: admin, body: { after: 'start' } });
  const next = await create();
  await eventually(() => printed().includes(`ApiKeyCreated ${next.id}`));
  expect(printed().split(made.id)).toHaveLength(2);
  const { hostname, port } = new URL(url);
  const broken = connect(Number(port), hostname);
  await once(broken, 'connect');
  await new Promise<void>((written) =>
    broken.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{', () => written()),
  );
  broken.resetAndDestroy();
  expect((await fetch(url, { method: 'POST', body: '{}' })).status).toBe(400);
});
