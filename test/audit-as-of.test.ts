import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { accessesOf } from './support/assertions/audit-accesses.js';
import { eventually } from './support/assertions/eventually.js';
import { CLI } from './support/servers/child-service.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const keys = '/repo/shop/ai/apikey';
let service: Running;
let admin: string;
const made: { id: string; key: string; secret: string; position: string }[] = [];
let deletedAt: string;
beforeAll(async () => {
  service = await runService({ RATE_LIMIT: '0' });
  admin = await service.token('admin', '*');
  for (const name of ['first', 'second']) {
    const body = { name, aiType: 'OPENAI' };
    const { json, headers } = await service.ask('POST', keys, { token: admin, body });
    const position = headers.get('keyledger-position') ?? '';
    made.push({ ...(json as { id: string; key: string; secret: string }), position });
  }
  const deleted = await service.ask('DELETE', `${keys}/${made[0]?.id}`, { token: admin });
  deletedAt = deleted.headers.get('keyledger-position') ?? '';
});
afterAll(() => service.stop());

const cli = (...args: string[]) => {
  const env = { PATH: process.env['PATH'], DATA_DIR: service.folder };
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'audit', ...args], {
    encoding: 'utf8',
    env,
  });
  return { status, stderr, stdout, lines: stdout.split('\n').slice(0, -1) };
};
const now = () => new Date().toISOString();
const accesses = () => accessesOf(service.config);
const asOf = (...args: string[]) => cli('as-of', '--repo', 'shop', ...args);

describe('keyledger audit as-of', () => {
  it('shows the keys of a repository as they were, newest first', () => {
    const [first, second] = made;
    expect(asOf('--at', second?.position ?? '').lines).toEqual([
      expect.stringMatching(/^id +name +key +type +status +position$/),
      expect.stringMatching(`^${second?.id}  second  ${second?.key} +OPENAI +active +${second?.position}$`),
      expect.stringMatching(`^${first?.id}  first   ${first?.key} +OPENAI +active +${first?.position}$`),
    ]);
    const listAsOf = (...args: string[]) =>
      asOf(...args, '--json').lines.map((line) => {
        const { name, status, position } = JSON.parse(line);
        return [name, status, position];
      });
    const [one, two, gone] = [
      ['first', 'active', first?.position],
      ['second', 'active', second?.position],
      ['first', 'deleted', deletedAt],
    ];
    expect(listAsOf('--at', first?.position ?? '')).toEqual([one]);
    expect(listAsOf('--at', deletedAt)).toEqual([two]);
    expect(listAsOf('--at', deletedAt, '--deleted')).toEqual([two, gone]);
    expect(listAsOf('--at', now(), '--status', 'deleted')).toEqual([gone]);
    expect(listAsOf('--at', now(), '--status', 'expired')).toEqual([]);
  });

  it('answers as the service does', async () => {
    const token = await service.token('auditor');
    const { json } = await service.ask('GET', `${keys}?asOf=${deletedAt}&include=deleted`, { token });
    const lines = asOf('--at', deletedAt, '--deleted', '--json').lines;
    expect(lines.map((line) => JSON.parse(line))).toEqual(json['apiKeys'] as Json[]);
  });

  it('ends without a word when nobody reads on', async () => {
    const env = { PATH: process.env['PATH'], DATA_DIR: service.folder };
    const args = ['as-of', '--repo', 'shop', '--at', deletedAt];
    const child = spawn(process.execPath, [CLI, 'audit', ...args], { env });
    child.stdout.destroy();
    let output = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    expect(await once(child, 'close')).toEqual([141, null]);
    expect(output).toBe('');
  });

  it('says where there was no key', () => {
    const nothing = cli('as-of', '--repo', 'other', '--at', now());
    expect(nothing).toMatchObject({
      status: 0,
      stdout: '',
      stderr: expect.stringMatching(/^No key of other at/),
    });
    expect(cli('as-of', '--repo', 'other', '--at', now(), '--json')).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  it('writes down who looked, unverified, and nothing where there is no answer', async () => {
    const before = (await accesses()).length;
    asOf('--at', 'yesterday');
    expect(await accesses()).toHaveLength(before);
    asOf('--at', deletedAt, '--status', 'active');
    expect((await accesses()).slice(before)).toMatchObject([
      {
        actor: { issuer: 'keyledger:command-line' },
        data: {
          access: 'as-of',
          repoId: 'shop',
          apiKeyId: null,
          query: { asOf: deletedAt, status: 'active' },
          from: expect.stringMatching(/^command line on /),
          verified: false,
        },
      },
    ]);
  });

  it.each([
    [['--at', 'yesterday'], /a time with its zone/],
    [['--at', '2999-01-01T00:00:00Z'], /in the future/],
    [['--at', '00000000-0000-4000-8000-000000000000:0000000000000002'], /another log/],
    [['--at', '2026-01-01T00:00:00Z', '--status', 'odd'], /active, suspended/],
    [[], /--at/],
  ])('refuses %j', (args, message) => {
    expect(asOf(...args)).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(message) });
  });
});

describe('keyledger audit could-use', () => {
  it('answers yes or no with the event that decides it, and ends with 0', async () => {
    const [{ id, key, position } = { id: '', key: '', position: '' }] = made;
    const yes = cli('could-use', key, '--at', position);
    expect([yes.status, yes.lines]).toEqual([
      0,
      [
        `yes: at ${position} it was active`,
        `key      ${id} of shop`,
        expect.stringMatching(
          `^decided  by ApiKeyCreated at .*Z, caused by ada \\(keyledger\\), position ${position}$`,
        ),
      ],
    ]);
    const no = cli('could-use', key, '--at', deletedAt);
    expect(no.status).toBe(0);
    expect(no.lines[0]).toBe(`no: at ${deletedAt} it was deleted`);
    expect(no.lines[2]).toMatch(`by ApiKeyDeleted at`);
    const early = cli('could-use', key, '--at', '2020-01-01T02:00:00+02:00', '--json');
    expect([early.status, early.lines.map((line) => JSON.parse(line))]).toEqual([
      0,
      [
        {
          key,
          asOf: '2020-01-01T00:00:00.000Z',
          couldUse: false,
          status: 'not created',
          apiKeyId: id,
          repoId: 'shop',
          expiresAt: null,
          event: {
            type: 'ApiKeyCreated',
            position,
            eventId: expect.stringMatching(/^[0-9a-f-]{36}$/),
            at: expect.stringMatching(/Z$/),
            actor: { issuer: 'keyledger', subject: 'ada' },
          },
        },
      ],
    ]);
    expect((await accesses()).slice(-2)).toMatchObject(
      [deletedAt, '2020-01-01T00:00:00.000Z'].map((time) => ({
        data: {
          access: 'could-use',
          repoId: 'shop',
          apiKeyId: id,
          query: { asOf: time, key },
          verified: false,
        },
      })),
    );
  });

  it('says when a key expired', async () => {
    const expiresAt = new Date(Date.now() + 1000).toISOString();
    const body = { name: 'short', aiType: 'AWS', expiresAt };
    const { json } = await service.ask('POST', keys, { token: admin, body });
    const fetchKey = async () => (await service.ask('GET', `${keys}/${json['id']}`, { token: admin })).json;
    await eventually(async () => ((await fetchKey())['apiKey'] as Json)['status'] === 'expired');
    const { lines } = cli('could-use', json['key'] as string, '--at', expiresAt);
    expect(lines[0]).toBe(`no: at ${expiresAt} it was expired at ${expiresAt}`);
    expect(lines[2]).toMatch('by ApiKeyCreated');
  });

  it('says that no key has the access key, and writes down that it was asked', async () => {
    const key = makeAccessKey();
    expect(cli('could-use', key, '--at', now())).toMatchObject({
      status: 0,
      stdout: 'no: no key has this access key\n',
    });
    expect((await accesses()).at(-1)?.data).toMatchObject({
      access: 'could-use',
      apiKeyId: null,
      query: { key },
    });
  });

  it('refuses what is no access key without repeating it: it may be a secret', async () => {
    const before = (await accesses()).length;
    const secret = makeSecret();
    for (const text of [secret, 'FB_AI_x', made[0]?.id ?? '']) {
      const { status, stdout, stderr } = cli('could-use', text, '--at', now());
      expect([status, stdout, stderr.includes(text)]).toEqual([1, '', false]);
      expect(stderr).toMatch(/not an access key/);
    }
    expect(cli('could-use', made[0]?.key ?? '', '--at', 'x')).toMatchObject({ status: 1, stdout: '' });
    expect(await accesses()).toHaveLength(before);
  });
});
