import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { DatabaseSync } from '@photostructure/sqlite';

/**
 * Makes the fixture of a release: drives the service of a built checkout of it through the life of some keys, and keeps
 * the log, an export if the release can make one, and its answers. See test/releases/README.md.
 */
const [checkout = '.', name = ''] = process.argv.slice(2);
const version = process.env['npm_package_version'] ?? 'next';
const target = resolve('test/releases', name || version);
const cli = resolve(checkout, 'dist/src/cli.js');
/** Invented for these fixtures: it protects nothing. */
const MASTER_KEYS = `fixture:${Buffer.from('invented for these fixtures only').toString('base64')}`;
const JWT_SECRET = 'a signing secret that was invented for these fixtures only';

const folder = mkdtempSync(join(tmpdir(), 'keyledger-release-'));
const env = {
  PATH: process.env['PATH'],
  DATA_DIR: folder,
  PORT: '0',
  MASTER_KEYS,
  JWT_SECRET,
  LOG_LEVEL: 'error',
};
const command = (...args: string[]) => {
  const { status, stdout } = spawnSync(process.execPath, [cli, ...args], { env, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
};

const child = spawn(process.execPath, [cli, 'serve'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
let printed = '';
for await (const text of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
  printed += text;
  if (/listens on\s+\S+\s/.test(printed)) break;
}
const url = /listens on\s+(\S+)/.exec(printed)?.[1];
if (!url) throw new Error(`The release did not start: ${printed}`);
child.stdout.resume();

type Json = { readonly [field: string]: unknown };
const tokens: Record<string, string | undefined> = {};
const ask = async (role: string, method: string, path: string, body?: object, idempotencyKey?: string) => {
  tokens[role] ??= command('token', '--repo', '*', '--role', role, '--subject', 'ada');
  const response = await fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${tokens[role]}`,
      ...(body ? { 'content-type': 'application/json' } : {}),
      ...(idempotencyKey ? { 'idempotency-key': idempotencyKey } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  return { status: response.status, json: (await response.json()) as Json };
};
while (!(await fetch(`${url}/health/ready`)).ok);

const made: { path: string; request: object; idempotencyKey: string; given: Json }[] = [];
const secrets: { key: string; secret: string }[] = [];
const create = async (repo: string, keyName: string, more: object = {}) => {
  const request = { name: keyName, aiType: 'OPENAI', ...more };
  const idempotencyKey = `fixture-${made.length}`;
  const { status, json } = await ask('admin', 'POST', `/repo/${repo}/ai/apikey`, request, idempotencyKey);
  if (status !== 201) throw new Error(`A creation got ${status}`);
  const given = json as { id: string; key: string; secret: string };
  const path = `/repo/${repo}/ai/apikey/${given.id}`;
  made.push({ path, request, idempotencyKey, given: json });
  secrets.push({ key: given.key, secret: given.secret });
  return { ...given, path };
};
const firstOf = async (repo: string): Promise<Json> => {
  const { apiKeys } = (await ask('viewer', 'GET', `/repo/${repo}/ai/apikey`)).json as { apiKeys: Json[] };
  return apiKeys[0] ?? {};
};
/** An early release answers 404 to what it does not know; the change is then skipped. */
const change = async (method: string, path: string, body?: object) => {
  const { status, json } = await ask('admin', method, path, body);
  if (![200, 201, 404].includes(status)) throw new Error(`${method} ${path} got ${status}`);
  return json;
};

await create('shop', 'plain');
const renamed = await create('shop', 'before');
await change('PUT', renamed.path, { name: 'after' });
const deleted = await create('shop', 'deleted');
await change('DELETE', deleted.path);
const rotated = await create('shop', 'rotated');
const { secret } = await change('POST', `${rotated.path}/rotate`, { overlapSeconds: 0 });
if (typeof secret === 'string') secrets.push({ key: rotated.key, secret });
const suspended = await create('shop', 'suspended');
await change('POST', `${suspended.path}/suspend`, { reason: 'odd traffic' });
const resumed = await create('shop', 'resumed');
await change('POST', `${resumed.path}/suspend`, {});
await change('POST', `${resumed.path}/resume`);
const knowsExpiry = 'expiresAt' in (await firstOf('shop'));
await create('shop', 'expires', knowsExpiry ? { expiresAt: '2999-12-31T00:00:00.000Z' } : {});
await create('other', 'of another repository', { aiType: 'AWS' });
const webhook = await change('POST', '/repo/shop/webhook', { url: 'https://receiver.example/keys' });
if (typeof webhook['id'] === 'string') await change('POST', `/repo/shop/webhook/${webhook['id']}/pause`);

/** Lists by path. The first releases list no deleted keys. */
const lists: Record<string, unknown> = {};
for (const path of ['/repo/shop/ai/apikey', '/repo/other/ai/apikey', '/repo/shop/ai/apikey?include=deleted']) {
  const { json } = await ask('viewer', 'GET', path);
  if (!path.includes('?') || JSON.stringify(json).includes(deleted.id)) lists[path] = json;
}
const verdicts: object[] = [];
for (const credential of secrets) {
  const { status, json } = await ask('verifier', 'POST', '/verify', credential);
  if (status === 200) verdicts.push({ credential, verdict: { ...json, position: undefined } });
}
const histories: Record<string, unknown> = {};
for (const { path } of made) {
  const { status, json } = await ask('auditor', 'GET', `${path}/history`);
  if (status === 200) histories[path] = json;
}
child.kill('SIGTERM');
await once(child, 'exit');

mkdirSync(target, { recursive: true });
command('log', 'export', '--output', join(target, 'export.ndjson'));
const file = join(folder, 'keyledger.db');
// Merges the WAL into the one file: a release that exits does not do so.
const db = new DatabaseSync(file);
db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
db.close();
copyFileSync(file, join(target, 'keyledger.db'));
writeFileSync(join(target, 'expected.json'), `${JSON.stringify({ made, lists, verdicts, histories }, null, 2)}\n`);
rmSync(folder, { recursive: true, force: true });
console.log(`Made ${target}`);
