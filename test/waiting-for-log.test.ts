import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttp2Server, createSecureServer, type Http2Server } from 'node:http2';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { CLI } from './support/servers/child-service.js';
import { eventStoreDbSource, startEventStoreDb } from './support/servers/eventstoredb-server.js';
import { freePort } from './support/servers/redis-server.js';
import { TcpProxy } from './support/servers/tcp-proxy.js';

/** A service whose log is unavailable when it starts. */

let folder: ReturnType<typeof temporaryFolder>;
let child: ChildProcess | undefined;
let servers: (Server | Http2Server)[] = [];
beforeEach(() => {
  folder = temporaryFolder();
  servers = [];
});
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  for (const server of servers) server.close();
  folder.remove();
});

async function serve(eventStoreUrl: string, settings: NodeJS.ProcessEnv = {}) {
  const port = await freePort();
  const env = { PATH: process.env['PATH'], DATA_DIR: folder.path, PORT: String(port), LOG_LEVEL: 'info' };
  const started = spawn(process.execPath, [CLI, 'serve'], {
    env: { ...env, EVENT_STORE_URL: eventStoreUrl, ...settings },
  });
  child = started;
  let output = '';
  for (const stream of [started.stdout, started.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  const exited = once(started, 'exit');
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    output: () => output,
    health: async (what: 'live' | 'ready') => {
      const response = await fetch(`${url}/health/${what}`);
      return [response.status, ((await response.json()) as { message?: string }).message];
    },
    exited,
    end: async () => {
      started.kill('SIGTERM');
      const [code] = await exited;
      return code as number | null;
    },
  };
}

async function listening<T extends Server | Http2Server>(server: T): Promise<number> {
  servers.push(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

function certificate(): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(folder.path, 'key.pem'), join(folder.path, 'cert.pem')];
  const made = ['-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=x'];
  spawnSync('openssl', ['req', '-x509', ...made], { stdio: 'ignore' });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

const cases: [what: string, url: () => Promise<string>, reason: RegExp][] = [
  ['where nothing listens', async () => `esdb://127.0.0.1:${await freePort()}?tls=false`, /nothing listens there/],
  [
    'where nothing listens, found by discovery',
    async () => `esdb+discover://127.0.0.1:${await freePort()}?tls=false`,
    /nothing listens there/,
  ],
  [
    'whose name does not resolve',
    async () => 'esdb://nosuch.invalid:2113?tls=false',
    /nosuch\.invalid:2113 has a name that does not resolve/,
  ],
  [
    'that does not speak TLS',
    async () => `esdb://127.0.0.1:${await listening(createHttp2Server())}`,
    /does not speak TLS: add \?tls=false to the URL/,
  ],
  [
    'that speaks only TLS',
    async () => `esdb://127.0.0.1:${await listening(createSecureServer(certificate()))}?tls=false`,
    /accepts only TLS: remove tls=false from the URL/,
  ],
  [
    'that accepts connections and never answers',
    async () => `esdb://127.0.0.1:${await listening(createServer())}?tls=false`,
    /accepts connections, but does not answer/,
  ],
];

describe('a service that starts without its log', () => {
  it.each(cases)(
    '%s says what it waits for and why, lives, is not ready, and ends on SIGTERM',
    async (_, make, reason) => {
      const service = await serve(await make());
      await eventually(() => service.output().includes('Waiting for the log at'));
      const line =
        service
          .output()
          .split('\n')
          .find((text) => text.includes('Waiting for the log')) ?? '';
      expect(JSON.parse(line)).toMatchObject({ level: 40, msg: expect.stringMatching(reason) });
      await eventually(() =>
        service.health('live').then(
          () => true,
          () => false,
        ),
      );
      expect(await service.health('live')).toEqual([200, undefined]);
      expect(await service.health('ready')).toEqual([503, expect.stringMatching(reason)]);
      const refused = await fetch(`${service.url}/repo/shop/ai/apikey`);
      expect(refused.status).toBe(503);
      expect(await refused.json()).toMatchObject({ success: false, code: 'UNAVAILABLE' });
      const reports = () => service.output().split('"msg":"Waiting for the log at').length - 1;
      await eventually(() => reports() > 1);
      expect(await service.end()).toBe(0);
    },
  );

  it('whose credentials are refused ends at once, and names the setting', async () => {
    const server = createHttp2Server().on('stream', (stream) =>
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '16', 'grpc-message': 'no' },
        { endStream: true },
      ),
    );
    const service = await serve(`esdb://ada:s3cret@127.0.0.1:${await listening(server)}?tls=false`);
    const [code] = await service.exited;
    expect(code).toBe(1);
    expect(service.output()).toMatch(
      /^EVENT_STORE_URL: Cannot open the log at esdb:\/\/127\.0\.0\.1:\d+\?tls=false: /m,
    );
    expect(service.output()).not.toContain('s3cret');
  });

  it('whose URL cannot be used ends at once, and names the setting', async () => {
    for (const url of ['esdb://ada@127.0.0.1:2113', 'esdb://127.0.0.1:2113?throwOnAppendFailure=false']) {
      const service = await serve(url);
      expect(await service.exited).toEqual([1, null]);
      expect(service.output()).toMatch(/^EVENT_STORE_URL: /m);
    }
  });

  it('whose port is taken meanwhile ends, and says so', async () => {
    const port = await listening(createServer());
    const service = await serve(`esdb://127.0.0.1:${await freePort()}?tls=false`, { PORT: String(port) });
    expect(await service.exited).toEqual([1, null]);
    expect(service.output()).toMatch(/^Cannot listen with PORT=/m);
  });

  (eventStoreDbSource ? it : it.skip)(
    'goes on when the log is there',
    async () => {
      const server = await startEventStoreDb();
      const [, host = '', port = ''] = /\/\/(?:.*@)?([^:/?]+):(\d+)/.exec(server.url) ?? [];
      const proxy = new TcpProxy({ host, port: Number(port) });
      const proxyPort = await proxy.start();
      await proxy.stop();
      const service = await serve(server.url.replace(`${host}:${port}`, `127.0.0.1:${proxyPort}`));
      await eventually(async () => (await service.health('ready').catch(() => []))[0] === 503);
      await proxy.start();
      await eventually(async () => (await service.health('ready').catch(() => []))[0] === 200);
      expect(service.output()).toContain('The log is available');
      expect(service.output()).toContain('Keyledger listens on');
      await proxy.stop();
      expect(await service.end()).toBe(0);
      await server.stop();
    },
    60_000,
  );
});
