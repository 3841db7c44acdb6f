import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { loadConfig } from '../src/config.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, CLI, spawnService } from './support/servers/child-service.js';
import { type Json, tokenFor } from './support/servers/service.js';

/** The clock of the service and its log was ahead for a while, as that of one machine can be. */

const DAY_MS = 86_400_000;
const keys = '/repo/shop/ai/apikey';

let folder: ReturnType<typeof temporaryFolder>;
let child: Child;
let clockFile: string;
let token: string;
beforeEach(async () => {
  folder = temporaryFolder();
  clockFile = join(folder.path, 'clock');
  writeFileSync(clockFile, '0');
  child = await spawnService(folder.path, {
    NODE_OPTIONS: `--import ${pathToFileURL(resolve('dist/torture/set-clock.js')).href}`,
    KEYLEDGER_TORTURE_CLOCK: clockFile,
  });
  const config = loadConfig({ DATA_DIR: folder.path });
  token = await tokenFor(config, { '*': 'admin' }, 'ada', (3 * DAY_MS) / 1000);
});
afterEach(async () => {
  await child.end('SIGKILL');
  folder.remove();
});

/**
 * Sets the clock of the service, and waits until the service and the log's thread read it: a token valid for an hour
 * has expired two days later.
 */
async function setClock(wrongByMs: number): Promise<void> {
  writeFileSync(clockFile, String(wrongByMs));
  const ofAnHour = await child.token('viewer');
  const expected = wrongByMs === 0 ? 200 : 401;
  await eventually(async () => (await child.ask('GET', keys, { token: ofAnHour })).status === expected);
  await eventually(async () => Math.abs((await recordedNow()) - Date.now() - wrongByMs) < 60_000);
}
/** Time at which the log records an event now (epoch milliseconds). */
async function recordedNow(): Promise<number> {
  const body = { name: 'probe', aiType: 'AWS' };
  await child.ask('POST', '/repo/probe/ai/apikey', { token, body });
  const failed = (error: Error) => {
    throw error;
  };
  const log = await openSqliteLog(join(folder.path, 'keyledger.db'), failed);
  try {
    return Date.parse((await log.eventAt(await log.end()))?.recordedAt ?? '');
  } finally {
    await log.close();
  }
}
const create = async (name: string) => {
  const { json } = await child.ask('POST', keys, { token, body: { name, aiType: 'AWS' } });
  return json as { id: string; key: string; secret: string };
};
const couldUse = (key: string, at: Date) => {
  const args = ['audit', 'could-use', key, '--at', at.toISOString(), '--json'];
  const env = { PATH: process.env['PATH'], DATA_DIR: folder.path };
  return JSON.parse(spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8', env }).stdout) as Json;
};
/** Id and status of each key, as of a time or as listed now. */
const listed = async (asOf?: Date) => {
  const query = asOf ? `&asOf=${asOf.toISOString()}` : '';
  const auditor = await child.token('auditor');
  const { json } = await child.ask('GET', `${keys}?include=deleted${query}`, { token: auditor });
  return (json['apiKeys'] as Json[]).map(({ id, status }) => [id, status]);
};

describe('a clock that was two days ahead for a moment', () => {
  it('leaves as of now what is served now, and as of before what was so then', async () => {
    const first = await create('before');
    const before = new Date();
    await setClock(2 * DAY_MS);
    const live = await create('live');
    const dead = await create('dead');
    await child.ask('POST', `${keys}/${first.id}/suspend`, { token });
    await setClock(0);
    await child.ask('DELETE', `${keys}/${dead.id}`, { token });
    await child.ask('POST', `${keys}/${first.id}/resume`, { token });
    const then = new Date();

    const now = [
      [dead.id, 'deleted'],
      [live.id, 'active'],
      [first.id, 'active'],
    ];
    expect(await listed()).toEqual(now);
    expect(await listed(new Date())).toEqual(now);
    expect(couldUse(live.key, new Date())).toMatchObject({ couldUse: true, status: 'active' });
    expect(couldUse(dead.key, new Date())).toMatchObject({ couldUse: false, status: 'deleted' });
    expect(couldUse(first.key, new Date())).toMatchObject({ couldUse: true, status: 'active' });
    // Events that a correct clock recorded count from their own time.
    expect(couldUse(dead.key, then)).toMatchObject({ couldUse: false, status: 'deleted' });

    // A point in time closer to now than this counts as now.
    await eventually(() => Date.now() - before.getTime() > 5500);
    // The list, a single key and could-use agree in the span, too.
    expect((await listed(then)).find(([id]) => id === dead.id)).toEqual([dead.id, 'deleted']);
    expect(await listed(before)).toEqual([[first.id, 'active']]);
    expect(couldUse(live.key, before)).toMatchObject({ couldUse: false, status: 'not created' });
    expect(couldUse(dead.key, before)).toMatchObject({ couldUse: false, status: 'not created' });
    expect(couldUse(first.key, before)).toMatchObject({ couldUse: true, status: 'active' });
  });

  it('leaves no key with a last use in the future', async () => {
    const { id, key, secret } = await create('used');
    await setClock(2 * DAY_MS);
    const headers = { 'x-api-key': key, 'x-api-secret': secret };
    // By the clock that is ahead, the log's last contact is stale until the next one.
    await eventually(async () => (await child.ask('GET', '/verify/forward', { headers })).status === 200);
    await setClock(0);
    const { json } = await child.ask('GET', `${keys}/${id}`, { token });
    const { lastUsedAt } = json['apiKey'] as { lastUsedAt: string };
    expect(Date.parse(lastUsedAt)).toBeLessThanOrEqual(Date.now());
  });
});
