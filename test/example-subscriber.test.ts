import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Running, runService } from './support/servers/service.js';

let service: Running;
let token: string;
const folder = temporaryFolder();
const running: { end(signal: NodeJS.Signals): Promise<unknown> }[] = [];
beforeAll(async () => {
  service = await runService();
  token = await service.token('auditor', '*');
});
afterEach(async () => {
  for (const subscriber of running.splice(0)) await subscriber.end('SIGKILL');
});
afterAll(async () => {
  await service.stop();
  folder.remove();
});

const POSITION_FILE = join(folder.path, 'position');

function start(environment: NodeJS.ProcessEnv = {}) {
  const settings = { BASE_URL: service.url, TOKEN: token, POSITION_FILE, ...environment };
  const child = spawn(process.execPath, ['examples/subscriber.mjs'], {
    env: { PATH: process.env['PATH'], ...settings },
  });
  const exited = once(child, 'exit');
  const printed = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    printed.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    printed.err += text;
  });
  const subscriber = {
    printed,
    names: () =>
      [...printed.out.matchAll(/^\S+ ApiKeyCreated \S+ (.*)$/gm)].map(([, data]) => JSON.parse(data ?? '').name),
    exited,
    end: async (signal: NodeJS.Signals) => {
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
  };
  running.push(subscriber);
  return subscriber;
}

const create = async (name: string) => {
  const admin = await service.token('admin');
  const { headers } = await service.ask('POST', '/repo/shop/ai/apikey', {
    token: admin,
    body: { name, aiType: 'AWS' },
  });
  return headers.get('keyledger-position');
};
const kept = () => readFileSync(POSITION_FILE, 'utf8');

describe('the example of a subscriber', () => {
  it('prints every event, and resumes after kill -9', async () => {
    await create('a');
    const first = start();
    await eventually(() => first.names().length === 1);
    const position = await create('b');
    await eventually(() => first.names().length === 2 && kept().startsWith(`${position}.`));
    expect(first.names()).toEqual(['a', 'b']);
    await first.end('SIGKILL');
    await create('c');
    const second = start();
    await eventually(() => second.names().length === 1);
    expect(second.names()).toEqual(['c']);
    expect(await second.end('SIGTERM')).toBe(0);
    expect(second.printed.err).toBe('');
  });

  it('says why it cannot resume', async () => {
    const { exited, printed } = start({ TOKEN: 'x' });
    expect(await exited).toEqual([1, null]);
    expect(printed).toEqual({ out: '', err: 'A valid bearer token is required\n' });
  });
});
