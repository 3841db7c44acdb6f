import { randomUUID } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { type Nginx, nginx, startNginx } from './support/servers/nginx.js';
import { type Ask, ask, type Running, runService } from './support/servers/service.js';
import { TcpProxy } from './support/servers/tcp-proxy.js';

type Key = {
  readonly id: string;
  readonly key: string;
  readonly secret: string;
  readonly repoId: string;
  readonly path: string;
};
type Received = {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
};
type Asked = { readonly url: string; readonly headers: IncomingHttpHeaders; readonly socket: Socket };

const whereThereIsNginx = nginx ? describe : describe.skip;

whereThereIsNginx('nginx, as docs/how-to/gateways.md sets it up', () => {
  const received: Received[] = [];
  const asked: Asked[] = [];
  let service: Running;
  let admin: string;
  let application: Server;
  let network: TcpProxy;
  let gateway: Nginx;

  /** Records forwarded requests as Keyledger receives them, in this process. */
  const recordRequest = (message: unknown) => {
    const { request, socket } = message as { request: IncomingMessage; socket: Socket };
    const { url = '', headers } = request;
    if (url.startsWith('/verify/forward')) asked.push({ url, headers, socket });
  };

  beforeAll(async () => {
    service = await runService();
    admin = await service.token('admin', '*');
    application = createServer(async (request, response) => {
      const { method = '', url = '', headers } = request;
      received.push({ method, url, headers, body: await text(request) });
      response.end('from the application');
    }).listen(0, '127.0.0.1');
    await once(application, 'listening');
    network = new TcpProxy({ host: '127.0.0.1', port: Number(new URL(service.url).port) });
    const port = await network.start();
    gateway = await startNginx(`127.0.0.1:${port}`, addressOf(application));
    subscribe('http.server.request.start', recordRequest);
  });
  afterAll(async () => {
    unsubscribe('http.server.request.start', recordRequest);
    await network?.stop();
    await gateway?.stop();
    application?.close();
    application?.closeAllConnections();
    await service?.stop();
  });
  beforeEach(() => {
    received.length = 0;
    asked.length = 0;
  });

  const create = async (): Promise<Key> => {
    const repoId = randomUUID();
    const path = `/repo/${repoId}/ai/apikey`;
    const body = { name: 'search', aiType: 'OPENAI' };
    const { id, key, secret } = (await service.ask('POST', path, { token: admin, body })).json as Key;
    return { id, key, secret, repoId, path: `${path}/${id}` };
  };
  const through = (headers: Record<string, string>, path = '/', request: Ask = {}) =>
    ask(gateway.url + path, request.body === undefined ? 'GET' : 'POST', { ...request, headers });
  const inHeaders = ({ key, secret }: Pick<Key, 'key' | 'secret'>) => ({
    'x-api-key': key,
    'x-api-secret': secret,
  });
  const ways = ({ key, secret }: Key): [way: string, headers: Record<string, string>][] => [
    ['X-Api-Key', inHeaders({ key, secret })],
    ['Basic', { authorization: `Basic ${Buffer.from(`${key}:${secret}`).toString('base64')}` }],
    ['Bearer', { authorization: `Bearer ${key}.${secret}` }],
  ];

  it('passes a valid credential in each form, and replaces it with the identity', async () => {
    const made = await create();
    for (const [way, headers] of ways(made)) {
      received.length = 0;
      const { status, text } = await through({ ...headers, 'x-own': 'kept' }, '/v1/models?repoId=other');
      expect([way, status, text]).toEqual([way, 200, 'from the application']);
      const [request] = received;
      expect(request?.url).toBe('/v1/models?repoId=other');
      expect(request?.headers).toMatchObject({
        'x-own': 'kept',
        'keyledger-key-id': made.id,
        'keyledger-repo-id': made.repoId,
        'keyledger-ai-type': 'OPENAI',
        'keyledger-staleness': expect.stringMatching(/^\d+\.\d$/),
      });
      expect(JSON.stringify(received)).not.toContain(made.secret);
      for (const name of ['authorization', 'x-api-key', 'x-api-secret']) {
        expect(request?.headers).not.toHaveProperty(name);
      }
    }
  });

  it('lets only keys of one repository and provider through where it says so, whatever a client sends', async () => {
    const restricted = await startNginx(new URL(service.url).host, addressOf(application), 'restricted');
    try {
      const made = async (repoId: string, aiType: string) => {
        const path = `/repo/${repoId}/ai/apikey`;
        const body = { name: 'x', aiType };
        return (await service.ask('POST', path, { token: admin, body })).json as unknown as Key;
      };
      const statusOf = async (key: Key, more: Record<string, string> = {}) =>
        (await ask(`${restricted.url}/v1?repoId=other`, 'GET', { headers: { ...inHeaders(key), ...more } })).status;
      expect(await statusOf(await made('shop', 'OPENAI'))).toBe(200);
      const spoofed = { 'keyledger-require-repo-id': 'other', 'keyledger-require-ai-type': 'AWS' };
      for (const [repoId, aiType] of [
        ['other', 'OPENAI'],
        ['shop', 'AWS'],
      ] as const) {
        const key = await made(repoId, aiType);
        expect([repoId, aiType, await statusOf(key)]).toEqual([repoId, aiType, 403]);
        expect([repoId, aiType, await statusOf(key, spoofed)]).toEqual([repoId, aiType, 403]);
      }
    } finally {
      await restricted.stop();
    }
  });

  it('lets nobody say who they are', async () => {
    const made = await create();
    const names = ['Key-Id', 'Repo-Id', 'Ai-Type', 'Staleness'];
    const spoofed = names.flatMap((name) => [
      [`Keyledger-${name}`, 'spoofed'],
      [`Keyledger_${name.replace('-', '_')}`, 'spoofed'],
      [`Keyledger.${name.replace('-', '.')}`, 'spoofed'],
    ]);
    const claims = Object.fromEntries(spoofed);
    expect((await through(claims)).status).toBe(401);
    expect(received).toEqual([]);
    expect((await through({ ...inHeaders(made), ...claims })).status).toBe(200);
    expect(received).toHaveLength(1);
    expect(JSON.stringify(received)).not.toContain('spoofed');
    expect(received[0]?.headers['keyledger-key-id']).toBe(made.id);
  });

  it.each([
    ['of a known length', (body: string) => body],
    ['in chunks', (body: string) => new Blob([body]).stream()],
  ])('hands a body %s on whole, and shows Keyledger nothing but the credential', async (_, send) => {
    const made = await create();
    const body = 'x'.repeat(300_000);
    const headers = { ...inHeaders(made), cookie: 'session=1', 'content-type': 'text/plain' };
    for (let n = 1; n <= 3; n++) {
      const request = { method: 'POST', headers, body: send(body), duplex: 'half' as const };
      expect((await fetch(`${gateway.url}/upload`, request)).status).toBe(200);
      expect(received).toHaveLength(n);
      expect(received[n - 1]).toMatchObject({ method: 'POST', url: '/upload', body });
      expect(received[n - 1]?.headers).toMatchObject({ cookie: 'session=1', 'content-type': 'text/plain' });
    }
    expect(asked).toHaveLength(3);
    for (const { url, headers } of asked) {
      expect([url, Object.keys(headers).sort()]).toEqual(['/verify/forward', ['host', 'x-api-key', 'x-api-secret']]);
    }
  });

  it('is 401 without a valid credential, and passes the challenge on', async () => {
    const made = await create();
    for (const headers of [
      {},
      { authorization: 'Bearer x' },
      inHeaders({ ...made, secret: makeSecret() }),
      inHeaders({ ...made, key: makeAccessKey() }),
    ] as Record<string, string>[]) {
      const answer = await through(headers, '/', { body: 'anything' });
      expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([
        401,
        expect.stringMatching(/^Bearer realm="keyledger"/),
      ]);
    }
    expect(received).toEqual([]);
  });

  it('is 403 while a key is suspended, and refuses at the first request after a deletion', async () => {
    const made = await create();
    const change = async (method: string, action = '') =>
      expect((await service.ask(method, made.path + action, { token: admin })).status).toBe(200);
    const status = async () => (await through(inHeaders(made))).status;
    expect(await status()).toBe(200);
    await change('POST', '/suspend');
    expect(await status()).toBe(403);
    await change('POST', '/resume');
    expect(await status()).toBe(200);
    await change('DELETE');
    expect(await status()).toBe(401);
    expect(received).toHaveLength(2);
  });

  it('keeps its connections to Keyledger', async () => {
    const made = await create();
    for (let n = 0; n < 20; n++) expect((await through(inHeaders(made))).status).toBe(200);
    expect(asked).toHaveLength(20);
    expect(new Set(asked.map(({ socket }) => socket)).size).toBe(1);
  });

  it('answers many at once, each for its own key', async () => {
    const keys = await Promise.all(Array.from({ length: 10 }, create));
    const requests = Array.from({ length: 300 }, async (_, n) => {
      const made = keys[n % keys.length] as Key;
      const isGood = n % 3 > 0;
      const credential = isGood ? made : { ...made, secret: makeSecret() };
      const { status } = await through(inHeaders(credential), `/${made.id}`);
      expect(status).toBe(isGood ? 200 : 401);
    });
    await Promise.all(requests);
    expect(received).toHaveLength(200);
    for (const { url, headers } of received) expect(url).toBe(`/${headers['keyledger-key-id']}`);
  });

  it('refuses every request while Keyledger is silent or unavailable, and recovers with it', async () => {
    const made = await create();
    const status = async () => (await through(inHeaders(made))).status;
    network.freeze();
    expect(await status()).toBe(500);
    network.thaw();
    await network.stop();
    expect(await status()).toBe(500);
    expect(received).toEqual([]);
    await network.start();
    expect(await status()).toBe(200);
    expect(received).toHaveLength(1);
  });

  it('lets nobody through where VERIFY_FORWARD is false', async () => {
    const other = await runService({ VERIFY_FORWARD: 'false' });
    const closed = await startNginx(new URL(other.url).host, addressOf(application));
    try {
      expect((await ask(closed.url, 'GET', { headers: inHeaders(await create()) })).status).toBe(500);
      expect(received).toEqual([]);
    } finally {
      await closed.stop();
      await other.stop();
    }
  });

  it('does not hand its question out to clients', async () => {
    const made = await create();
    expect((await through(inHeaders(made), '/_keyledger')).status).toBe(404);
    expect(asked).toEqual([]);
  });
});

function addressOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
