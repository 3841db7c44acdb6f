import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type Child, CLI, spawnService } from './child-service.js';
import { freshFolder } from './fresh.js';
import type { Json } from './service.js';

let folder: ReturnType<typeof freshFolder>;
let children: Child[] = [];
beforeEach(() => {
  folder = freshFolder();
  children = [];
});
afterEach(async () => {
  for (const child of children) if (child.process.exitCode === null) await child.end('SIGKILL');
  folder.remove();
});

const serve = async (settings: NodeJS.ProcessEnv = {}) => {
  const child = await spawnService(folder.path, { RATE_LIMIT: '0', ...settings });
  children.push(child);
  return child;
};
const cli = (args: string[], settings: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [CLI, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], DATA_DIR: folder.path, PORT: '0', ...settings },
  });
const keys = '/repo/shop/ai/apikey';
const body = { name: 'search', aiType: 'OPENAI' };
const listed = async (child: Child, headers = {}) =>
  (await child.ask('GET', keys, { token: await child.token('viewer'), headers })).json['apiKeys'] as Json[];

describe('keyledger serve', () => {
  it('says where it listens, where its data lies, where the docs are, and how to mint a token', async () => {
    const { url, output } = await serve();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(output()).toContain(`${url}/docs`);
    expect(output()).toContain(folder.path);
    expect(output()).toContain('npx keyledger token --repo demo --role admin');
    expect(output()).toContain('master.keys');
  });

  it('makes its keys once, for its owner only', async () => {
    const first = await serve();
    for (const file of ['master.keys', 'signing.key'])
      expect(statSync(join(folder.path, file)).mode & 0o777).toBe(0o600);
    const token = await first.token('admin');
    await first.end('SIGTERM');
    const second = await serve();
    expect((await second.ask('GET', keys, { token })).status).toBe(200);
    expect(second.output()).not.toContain('master.keys');
  });

  it('in production makes nothing, and says what is missing', () => {
    const { status, stderr } = cli(['serve'], { NODE_ENV: 'production' });
    expect(status).toBe(1);
    expect(stderr).toContain('MASTER_KEYS');
    expect(existsSync(join(folder.path, 'master.keys'))).toBe(false);
  });

  it.each([
    [{ PORT: '70000' }, /PORT must be a whole number from 0 to 65535/],
    [{ LOG_LEVEL: 'loud' }, /LOG_LEVEL/],
    [{ MASTER_KEYS: 'k1:AAAA' }, /MASTER_KEYS: master key k1 has 3 bytes/],
    [{ MASTER_KEYS_FILE: '/nowhere' }, /\/nowhere/],
    [{ JWT_SECRET: 'short' }, /JWT_SECRET must have at least 32/],
    [{ TRUST_PROXY: 'foo' }, /TRUST_PROXY must be true, false, or addresses/],
    [{ TRUST_PROXY: '10.0.0.0/99' }, /TRUST_PROXY/],
    [{ MASTER_KEYS: `k1:!!!${'A'.repeat(43)}=` }, /master key k1 is not base64/],
    [{ JWT_JWKS_URL: 'https://a.example/keys' }, /JWT_JWKS_URL needs JWT_ISSUER/],
    [{ EVENT_STORE_URL: 'mysql://x' }, /EVENT_STORE_URL must be sqlite/],
    [{ EVENT_STORE_URL: 'sqlite:package.json' }, /package\.json is not a log of Keyledger/],
  ])('refuses %j in one line that names it', (settings, message) => {
    const { status, stderr, stdout } = cli(['serve'], settings);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('    at ');
  });

  it('says if its port is taken, and ends', async () => {
    const { url } = await serve();
    for (const setting of ['PORT', 'METRICS_PORT']) {
      const { status, stderr } = cli(['serve'], { [setting]: new URL(url).port });
      expect([status, stderr]).toEqual([1, expect.stringMatching(/^keyledger: .*EADDRINUSE.*\n$/)]);
    }
  });
});

describe('a signing key that somebody emptied', () => {
  it('is refused by name', () => {
    writeFileSync(join(folder.path, 'signing.key'), 'ab');
    expect(cli(['serve'])).toMatchObject({ status: 1, stderr: expect.stringContaining('signing.key') });
  });
});

describe('SIGTERM', () => {
  it('lets a request under way finish, and ends with 0', async () => {
    const child = await serve();
    const text = JSON.stringify(body);
    const under = request(`${child.url}${keys}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await child.token('admin')}`,
        'content-type': 'application/json',
        'content-length': text.length,
        expect: '100-continue',
      },
    });
    under.flushHeaders();
    await once(under, 'continue');
    const ended = child.end('SIGTERM');
    under.end(text);
    const [response] = await once(under, 'response');
    expect(response.statusCode).toBe(201);
    response.resume();
    expect(await ended).toBe(0);
    expect(await listed(await serve())).toHaveLength(1);
  });

  it('does not wait for connections that have no request under way', async () => {
    const child = await serve();
    const socket = connect(Number(new URL(child.url).port), '127.0.0.1');
    // It is cut off with bytes unread, which may reach it as a reset.
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write('GET /health/live HTTP/1.1\r\nHost');
    const started = Date.now();
    expect(await child.end('SIGTERM')).toBe(0);
    expect(Date.now() - started).toBeLessThan(5_000);
  });

  it('does not wait for ever for a client that does not finish', async () => {
    const child = await serve();
    const under = request(`${child.url}${keys}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await child.token('admin')}`,
        'content-type': 'application/json',
        'content-length': 9,
        expect: '100-continue',
      },
    });
    under.flushHeaders();
    await once(under, 'continue');
    const cut = once(under, 'error');
    const started = Date.now();
    expect(await child.end('SIGTERM')).toBe(0);
    expect(Date.now() - started).toBeLessThan(10_000);
    await cut;
  });
});

describe('kill -9', () => {
  it('loses no key that was acknowledged, and a repeat gets the answer of the first', async () => {
    const child = await serve();
    const token = await child.token('admin');
    const acknowledged = new Map<string, Json>();
    const client = async () => {
      for (;;) {
        const key = randomUUID();
        const { json, status } = await child.ask('POST', keys, {
          token,
          body,
          headers: { 'idempotency-key': key },
        });
        if (status === 201) acknowledged.set(key, json);
        if (acknowledged.size === 200) void child.end('SIGKILL');
      }
    };
    await Promise.allSettled(Array.from({ length: 16 }, client));
    expect(acknowledged.size).toBeGreaterThanOrEqual(200);

    const again = await serve();
    const ids = (await listed(again)).map(({ id }) => id);
    expect(ids).toEqual(expect.arrayContaining([...acknowledged.values()].map(({ id }) => id)));
    expect(new Set(ids).size).toBe(ids.length);
    for (const [key, first] of [...acknowledged].slice(0, 20)) {
      const { json } = await again.ask('POST', keys, { token, body, headers: { 'idempotency-key': key } });
      expect(json).toEqual(first);
    }
    expect(await listed(again)).toHaveLength(ids.length);
  });
});

describe('two processes on one SQLite file', () => {
  it('read what the other has written, at the position that it told', async () => {
    const [one, two] = [await serve(), await serve()];
    const token = await one.token('admin');
    for (let n = 1; n <= 20; n++) {
      const { headers } = await (n % 2 ? one : two).ask('POST', keys, { token, body });
      const position = headers.get('keyledger-position') ?? '';
      expect(await listed(n % 2 ? two : one, { 'keyledger-min-position': position })).toHaveLength(n);
    }
  });

  it('make one key of one Idempotency-Key, and both answer alike', async () => {
    const [one, two] = [await serve(), await serve()];
    const token = await one.token('admin');
    const pairs = Array.from({ length: 100 }, async () => {
      const headers = { 'idempotency-key': randomUUID() };
      return Promise.all([one, two].map((child) => child.ask('POST', keys, { token, body, headers })));
    });
    for (const [a, b] of await Promise.all(pairs)) {
      expect(a?.status).toBe(201);
      expect(b?.json).toEqual(a?.json);
    }
    expect(await listed(one)).toHaveLength(100);
  });
});

describe('keyledger token', () => {
  it('prints a token and nothing else', async () => {
    const { stdout, status } = cli([
      'token',
      '--repo',
      'shop',
      '--role',
      'viewer',
      '--ttl',
      '90s',
      '--subject',
      'bob',
    ]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const claims = JSON.parse(Buffer.from(stdout.split('.')[1] ?? '', 'base64url').toString());
    expect(claims).toMatchObject({
      sub: 'bob',
      iss: 'keyledger',
      aud: 'keyledger',
      repos: { shop: 'viewer' },
    });
    expect(claims.exp - claims.iat).toBe(90);
    expect((await (await serve()).ask('GET', keys, { token: stdout.trim() })).status).toBe(200);
  });

  it.each([
    [['--role', 'viewer'], /--repo/],
    [['--repo', 'x', '--role', 'king'], /viewer, admin/],
    [['--repo', 'x', '--role', 'admin', '--ttl', '1 year'], /90s, 15m, 1h or 7d/],
  ])('refuses %j and says what is right', (args, message) => {
    const { stdout, stderr, status } = cli(['token', ...args]);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(message);
  });

  it('leaves the minting to the issuer of a key set', () => {
    const settings = { JWT_JWKS_URL: 'https://a.example/keys', JWT_ISSUER: 'i', JWT_AUDIENCE: 'a' };
    expect(cli(['token', '--repo', 'x', '--role', 'admin'], settings).stderr).toContain('the issuer');
  });
});

describe('keyledger audit history', () => {
  it('shows every event of a key, also while the service runs and after its deletion, and no secret material', async () => {
    const child = await serve();
    const token = await child.token('admin');
    const { id, key, secret } = (await child.ask('POST', keys, { token, body })).json as Record<
      string,
      string
    >;
    await child.ask('PUT', `${keys}/${id}`, { token, body: { name: 'find' } });
    await child.ask('DELETE', `${keys}/${id}`, { token });
    const table = cli(['audit', 'history', id ?? '']);
    expect(table.stdout.trim().split('\n')).toEqual([
      expect.stringMatching(
        `^20.*Z  ApiKeyCreated +by ada \\(keyledger\\)  repoId="shop", name="search", aiType="OPENAI", key="${key}", status="active", secretVersion=1$`,
      ),
      expect.stringMatching(/ApiKeyRenamed +by ada \(keyledger\) {2}name "search" -> "find"$/),
      expect.stringMatching(/ApiKeyDeleted +by ada/),
    ]);
    const lines = cli(['audit', 'history', id ?? '', '--json'])
      .stdout.trim()
      .split('\n');
    expect(lines.map((line) => JSON.parse(line).revision)).toEqual([0, 1, 2]);
    for (const text of [table.stdout, ...lines])
      expect(text).not.toMatch(new RegExp(`${secret}|v1\\.k1|[0-9a-f]{64}`));
  });

  it('shows the events of a repository, filtered, with who looked and that nobody has proved who that is', async () => {
    const child = await serve();
    const token = await child.token('admin');
    const { json } = await child.ask('POST', keys, { token, body });
    const id = json['id'] as string;
    await child.ask('PUT', `${keys}/${id}`, { token, body: { name: 'find' } });
    await child.ask('POST', '/repo/other/ai/apikey', { token, body });
    const events = (...args: string[]) => {
      const { stdout, status } = cli(['audit', 'events', '--repo', 'shop', '--json', ...args]);
      expect(status).toBe(0);
      return stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Json);
    };
    const [created, renamed, ...looks] = events();
    expect([created?.['type'], renamed?.['type']]).toEqual(['ApiKeyCreated', 'ApiKeyRenamed']);
    expect(looks).toEqual([]);
    expect(events('--type', 'ApiKeyRenamed', '--actor', 'ada', '--key', id)).toEqual([renamed]);
    expect(
      events('--from', created?.['position'] as string, '--to', renamed?.['position'] as string),
    ).toEqual([renamed]);
    expect(events('--to', '2001-01-01T00:00:00Z')).toEqual([]);
    const table = cli(['audit', 'events', '--repo', 'shop', '--type', 'AuditAccessed']).stdout;
    expect(table).toMatch(
      /AuditAccessed +by .* \(keyledger:command-line\) {2}audit from command line on .* \(not verified\)/,
    );
    expect(cli(['audit', 'events', '--repo', 'shop', '--type', 'x'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('one or several of'),
    });
    expect(cli(['audit', 'events', '--repo', 'shop', '--from', 'x'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('neither a position'),
    });
  });

  it('says if there is no such log, and makes none', () => {
    expect(cli(['audit', 'history', randomUUID()])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('There is no log at'),
    });
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('says if there is no such key', async () => {
    await (await serve()).end('SIGTERM');
    expect(cli(['audit', 'history', randomUUID()])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('There is no key'),
    });
    expect(cli(['audit', 'history', 'x'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('not the id of a key'),
    });
  });
});
