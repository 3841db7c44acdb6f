import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { eventsAt } from './support/fixtures/log-copies.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { CLI } from './support/servers/child-service.js';
import { type Running, runService } from './support/servers/service.js';

const home = temporaryFolder();
const keys = '/repo/shop/ai/apikey';
const READ_ONLY = /log\.db is a read-only copy: it does not record this access\n/;
let service: Running;
let key: { readonly id: string; readonly key: string };
let events: number;
/** Copies of a log, each in a folder of its own: one of a running service, and one after a clean stop. */
let number = 0;
let folder: string;
let live: string;
let file: string;

beforeAll(async () => {
  service = await runService();
  const token = await service.token('admin');
  const body = { name: 'search', aiType: 'AWS' };
  for (let n = 0; n < 3; n++) {
    key = (await service.ask('POST', keys, { token, body })).json as typeof key;
  }
  chmodSync(home.path, 0o777);
  live = join(service.folder, 'keyledger.db');
  const whole = join(home.path, 'whole.db');
  const db = new DatabaseSync(live, { readOnly: true });
  db.exec(`VACUUM INTO '${whole}'`);
  db.close();
  events = (await eventsAt(`sqlite:${whole}`)).length;
  expect(events).toBe(3);
});
afterAll(async () => {
  await service.stop();
  for (const name of readdirSync(home.path)) if (!name.includes('.')) chmodSync(join(home.path, name), 0o755);
  home.remove();
});
beforeEach(() => {
  folder = join(home.path, `copy${++number}`);
  mkdirSync(folder);
  file = join(folder, 'log.db');
  copyFileSync(join(home.path, 'whole.db'), file);
  for (const end of ['-wal', '-shm']) expect(existsSync(file + end)).toBe(false);
});

type Ran = { readonly code: number | null; readonly stdout: string; readonly stderr: string };
type Run = (...args: readonly string[]) => Ran;

const run = (command: string, args: readonly string[], more: object = {}): Ran => {
  const env = { PATH: process.env['PATH'], DATA_DIR: home.path, EVENT_STORE_URL: `sqlite:${file}` };
  const ended = spawnSync(command, args, { encoding: 'utf8', env, ...more });
  return { code: ended.status, stdout: ended.stdout, stderr: ended.stderr };
};
const keyledger: Run = (...args) => run(process.execPath, [CLI, ...args]);

const isRoot = process.getuid?.() === 0;
/** Runs without the rights of root, who ignores permissions. */
const asUser: Run = (...args) => run(process.execPath, [CLI, ...args], isRoot ? { uid: 65534, gid: 65534 } : {});

/** Revokes everyone's permission to write. */
const protect = () => {
  for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o444);
  chmodSync(folder, 0o555);
};
const canMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
const MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"';
/** Runs with the copy's folder on a read-only mount. */
const onReadOnlyMount: Run = (...args) =>
  run('unshare', ['--mount', 'sh', '-c', MOUNT, folder, process.execPath, resolve(CLI), ...args]);

const media: [string, () => void, Run][] = [['without permission to write', protect, asUser]];
if (canMount) media.push(['on a file system that is read-only', () => undefined, onReadOnlyMount]);
else process.stderr.write('Logs on read-only mounts are not tried: that takes root\n');

describe.each(media)('a copy of a log %s', (_, makeReadOnly, run) => {
  const content = () =>
    Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'hex')]));

  it('can be verified, exported and looked at, and stays as it is', async () => {
    makeReadOnly();
    const before = content();
    const now = new Date().toISOString();
    const looks: [args: string[], says: RegExp][] = [
      [['audit', 'verify'], /The log holds 3 events of 3 keys .*\nResult: equal\n$/s],
      [['audit', 'history', key.id], /ApiKeyCreated/],
      [['audit', 'events', '--repo', 'shop'], /^(.*ApiKeyCreated.*\n){3}$/],
      [['audit', 'as-of', '--repo', 'shop', '--at', now], /(.*AWS.*\n){3}$/],
      [['audit', 'could-use', key.key, '--at', now], /^yes: /],
      [['log', 'export'], /"events":3,"sha256"/],
    ];
    for (const [args, says] of looks) {
      const { code, stdout, stderr } = run(...args);
      expect([args, code, stderr]).toEqual([args, 0, expect.stringMatching(READ_ONLY)]);
      expect(stdout).toMatch(says);
    }
    expect(content()).toEqual(before);
  });

  it('with the events that a running service had not yet moved into the file is whole', () => {
    for (const end of ['', '-wal', '-shm']) copyFileSync(live + end, file + end);
    makeReadOnly();
    const { code, stdout } = run('audit', 'verify');
    expect(stdout).toMatch(/The log holds 3 events of 3 keys /);
    expect(code).toBe(0);
  });

  it('that lacks a part of it says so', () => {
    for (const end of ['', '-wal']) copyFileSync(live + end, file + end);
    makeReadOnly();
    const { code, stdout } = run('audit', 'verify');
    expect([code, stdout]).toEqual([2, expect.stringMatching(/is incomplete: its last events are in \S+-wal/)]);
  });

  it('takes nothing', () => {
    const exported = join(home.path, `${number}.ndjson`);
    expect(keyledger('log', 'export', '--output', exported).code).toBe(0);
    makeReadOnly();
    expect(run('log', 'import', exported)).toMatchObject({ code: 1, stdout: '' });
  });
});

describe('a log that can be written', () => {
  it('is not shown while nobody can record that somebody looks', () => {
    const db = new DatabaseSync(file);
    db.exec('BEGIN IMMEDIATE');
    const { code, stdout, stderr } = keyledger('audit', 'history', key.id);
    db.exec('ROLLBACK');
    db.close();
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^keyledger: Not done: /);
  });

  (isRoot ? it : it.skip)('is not shown to a user who may read it and not write', () => {
    chmodSync(file, 0o644);
    const { code, stdout, stderr } = asUser('audit', 'history', key.id);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^keyledger: Cannot open the log \S+: EACCES/);
  });

  it('records each look', async () => {
    const { code, stderr } = keyledger('audit', 'history', key.id);
    expect([code, stderr]).toEqual([0, '']);
    const types = (await eventsAt(`sqlite:${file}`)).map(({ type }) => type);
    expect(types).toContain('AuditAccessed');
  });
});

it('no service starts on a read-only copy', () => {
  protect();
  const { code, stderr } = asUser('serve');
  expect([code, stderr]).toEqual([1, expect.stringMatching(/Cannot open the log/)]);
});
