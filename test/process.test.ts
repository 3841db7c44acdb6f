import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, CLI, spawnService } from './support/servers/child-service.js';
import type { Json } from './support/servers/service.js';

let folder: ReturnType<typeof temporaryFolder>;
let children: Child[] = [];
beforeEach(() => {
  folder = temporaryFolder();
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
const MASTER_KEYS = `k1:${Buffer.alloc(32, 1).toString('base64')}`;
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
    [{ TRUST_PROXY: '0.0.0.0/0' }, /TRUST_PROXY must not hold a network of all addresses: write true/],
    [{ TRUST_PROXY: '10.0.0.0/8, ::/0' }, /TRUST_PROXY must not hold a network of all addresses/],
    [{ CORS_ORIGIN: '*' }, /CORS_ORIGIN must be origins such as https:/],
    [{ CORS_ORIGIN: 'https://app.example.com/' }, /CORS_ORIGIN must be origins/],
    [{ HOST: 'nosuch.invalid' }, /^Cannot listen with HOST=nosuch\.invalid: .*\n$/],
    [{ HOST: '192.0.2.1' }, /^Cannot listen with HOST=192\.0\.2\.1: .*\n$/],
    [{ HOST: 'nosuch.invalid', METRICS_PORT: '0' }, /^Cannot listen with HOST=nosuch\.invalid: .*\n$/],
    [{ NODE_ENV: 'Production' }, /NODE_ENV must be production, development, test or unset/],
    [{ NODE_ENV: 'prod' }, /NODE_ENV must be production/],
    [{ JWKS_MAX_AGE: 'a day' }, /JWKS_MAX_AGE must be a whole number/],
    [{ JWKS_MAX_AGE: '0' }, /JWKS_MAX_AGE must be at least 300/],
    [{ TRUST_PROXY: '::ffff:10.0.0.0/104' }, /TRUST_PROXY must be true, false, or addresses/],
    [{ EVENT_STORE_PREFIX: 'a' }, /EVENT_STORE_PREFIX is for EventStoreDB/],
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
      const named = new RegExp(`^Cannot listen with ${setting}=\\d+: .*EADDRINUSE.*\\n$`);
      expect([status, stderr]).toEqual([1, expect.stringMatching(named)]);
    }
  });
});

describe('settings', () => {
  it('with white space around them, as from a file, are the same', async () => {
    const secret = 'a shared secret of at least 32 characters';
    const child = await serve({ JWT_SECRET: `${secret}\n`, RATE_LIMIT: ' 0 ', HOST: '127.0.0.1\n' });
    const token = cli(['token', '--repo', 'shop', '--role', 'admin'], { JWT_SECRET: secret }).stdout.trim();
    expect((await child.ask('GET', keys, { token })).status).toBe(200);
  });

  it('METRICS_PORT=0 takes a free port, and says which', async () => {
    const child = await serve({ METRICS_PORT: '0' });
    const metricsUrl = /metrics are at\s+(\S+)/.exec(child.output())?.[1] ?? '';
    expect(await (await fetch(metricsUrl)).text()).toContain('keyledger_appends_total');
    expect((await child.ask('GET', '/metrics')).status).toBe(404);
  });
});

describe('a user without a name, as in a container', () => {
  const asNobody = (args: string[]) =>
    spawnSync('unshare', ['--user', '--map-user=54321', process.execPath, CLI, ...args], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], DATA_DIR: folder.path, PORT: '0' },
    });

  it.each([[['--help']], [['serve', '--help']], [['audit', '--help']], [['token', '--help']]])(
    'can call keyledger %j',
    (args) => expect(asNobody(args)).toMatchObject({ status: 0, stderr: '' }),
  );

  it('is named by its number, in tokens and in the audit', async () => {
    const { stdout } = asNobody(['token', '--repo', 'shop', '--role', 'admin']);
    expect(JSON.parse(Buffer.from(stdout.split('.')[1] ?? '', 'base64url').toString()).sub).toBe('54321');
    await (await serve()).end('SIGTERM');
    asNobody(['audit', 'events', '--repo', 'shop']);
    const { stdout: audit } = cli(['audit', 'events', '--repo', 'shop', '--type', 'AuditAccessed']);
    expect(audit).toContain('by 54321 (keyledger:command-line)');
  });
});

describe('a signing key that somebody emptied', () => {
  it('is refused by name', () => {
    writeFileSync(join(folder.path, 'signing.key'), 'ab');
    expect(cli(['serve'])).toMatchObject({ status: 1, stderr: expect.stringContaining('signing.key') });
  });
});

describe('SIGHUP', () => {
  it('ends the service cleanly, as SIGTERM', async () => {
    expect(await (await serve()).end('SIGHUP')).toBe(0);
  });
});

describe('a tool whose output cannot be written', () => {
  it('says so in one line, and fails', () => {
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [CLI, 'token', '--repo', 'shop', '--role', 'admin'], {
      encoding: 'utf8',
      stdio: ['ignore', full, 'pipe'],
      env: { PATH: process.env['PATH'], DATA_DIR: folder.path, JWT_SECRET: 'x'.repeat(32), MASTER_KEYS },
    });
    closeSync(full);
    expect(stderr).toMatch(/^keyledger: cannot write to standard output: ENOSPC.*\n$/);
    expect(status).toBe(1);
  });
});

describe('a bearer token that is refused', () => {
  it('is logged at debug with what is wrong with it, counted, and never printed', async () => {
    const child = await serve({ LOG_LEVEL: 'debug' });
    const mint = (settings: NodeJS.ProcessEnv) =>
      cli(['token', '--repo', 'shop', '--role', 'admin'], settings).stdout.trim();
    const tokens = {
      issuer: mint({ JWT_ISSUER: 'else' }),
      audience: mint({ JWT_AUDIENCE: 'else' }),
      signature: mint({ JWT_SECRET: 'another secret of at least 32 characters' }),
      malformed: 'nonsense',
    };
    for (const [reason, token] of Object.entries(tokens)) {
      const { status, json } = await child.ask('GET', keys, { token });
      expect(status).toBe(401);
      await eventually(() => child.output().includes(`"fault":"${reason}"`));
      const line =
        child
          .output()
          .split('\n')
          .find((text) => text.includes(`"fault":"${reason}"`)) ?? '';
      expect(JSON.parse(line)).toMatchObject({ level: 20, requestId: json['requestId'] });
      expect(child.output()).not.toContain(token.split('.')[2] ?? token);
    }
    const { text } = await child.ask('GET', '/metrics');
    for (const reason of Object.keys(tokens))
      expect(text).toContain(`keyledger_refused_tokens_total{reason="${reason}"} 1`);
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
    // The service cuts it off with bytes unread, which may reach the client as a reset.
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
  it('read what the other has written, at the position that it returned', async () => {
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
    const { stdout, status } = cli(['token', '--repo', 'shop', '--role', 'viewer', '--ttl', '90s', '--subject', 'bob']);
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
    [['--repo', 'owner/name', '--role', 'admin'], /must be 1 to 128 of letters, digits/],
    [['--repo', '', '--role', 'admin'], /must be 1 to 128 of letters, digits/],
    [['--repo', 'a', '--repo', 'b', '--role', 'admin'], /option '--repo <id>' is repeated/],
    [['--repo', 'a', '--role', 'admin', '--role', 'viewer'], /option '--role <role>' is repeated/],
    [['--repo', 'a', '--role', 'admin', '--subject', ''], /must not be empty or contain control characters/],
    [['--repo', 'a', '--role', 'admin', '--subject', 'a\nb'], /must not be empty or contain control characters/],
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
    const { id, key, secret } = (await child.ask('POST', keys, { token, body })).json as Record<string, string>;
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
    for (const text of [table.stdout, ...lines]) expect(text).not.toMatch(new RegExp(`${secret}|v1\\.k1|[0-9a-f]{64}`));
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
    const capitals = id.toUpperCase();
    expect(events('--type', 'ApiKeyRenamed, ApiKeyDeleted', '--actor', 'ada', '--key', capitals)).toEqual([renamed]);
    expect(cli(['audit', 'events', '--repo', 'shop', '--key', 'x']).stderr).toContain('a UUID');
    expect(events('--from', created?.['position'] as string, '--to', renamed?.['position'] as string)).toEqual([
      renamed,
    ]);
    expect(events('--to', '2001-01-01T00:00:00Z')).toEqual([]);
    const table = cli(['audit', 'events', '--repo', 'shop', '--type', 'AuditAccessed']).stdout;
    expect(table).toMatch(
      /AuditAccessed +by .* \(keyledger:command-line\) {2}audit from command line on .* \(not verified\)/,
    );
    expect(cli(['audit', 'events', '--repo', 'shop', '--type', 'x'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('one or more of'),
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
      stderr: expect.stringContaining('holds no key or webhook'),
    });
    expect(cli(['audit', 'history', 'x'])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('not the id of a key'),
    });
  });
});
