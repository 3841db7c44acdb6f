import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { loggedUrl } from '../src/http/plugins/access-log.js';
import { makeSecret } from '../src/security/credentials.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';

describe('the line of a request', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let child: Child;
  beforeEach(async () => {
    folder = temporaryFolder();
    child = await spawnService(folder.path, { LOG_LEVEL: 'debug' });
  });
  afterEach(async () => {
    await child.end('SIGKILL');
    folder.remove();
  });

  it('holds no secret or token that somebody puts into a URL', async () => {
    const secret = makeSecret();
    const token = await child.token('admin');
    const paths = [
      ['GET', `/events?access_token=${token}`],
      ['POST', `/revoke?secret=${secret}`],
      ['GET', `/verify?secret=${secret}`],
      ['GET', `/verify/forward?secret=${secret}`],
      ['GET', `/verify/forward/app?access_token=${token}`],
      ['GET', `/nothing/${secret}/${token}`],
      ['GET', `/repo/shop/ai/apikey?cursor=${secret}&limit=${token}`],
      ['GET', `/repo/shop/ai/apikey?limit=1?secret=${secret}`],
    ] as const;
    for (const [method, path] of paths) await child.ask(method, path, { token });
    await eventually(() => child.output().split('"msg":"answered"').length - 1 >= paths.length);
    expect(child.output()).not.toContain(secret);
    expect(child.output()).not.toContain(token);
  });

  it('is at debug level for a verification, which proxies send for each of their requests, and at info for others', async () => {
    const token = await child.token('verifier');
    await child.ask('POST', '/verify', { token, body: { key: 'x', secret: 'y' } });
    await child.ask('GET', '/verify/forward');
    await child.ask('GET', '/repo/shop/ai/apikey', { token });
    const answered = () =>
      child
        .output()
        .split('\n')
        .filter((line) => line.includes('"msg":"answered"'))
        .map((line) => JSON.parse(line) as { path: string; level: number });
    const levels = () => Object.fromEntries(answered().map(({ path, level }) => [path, level]));
    await eventually(() => '/repo/shop/ai/apikey' in levels());
    expect(levels()).toMatchObject({ '/verify': 20, '/verify/forward': 20, '/repo/shop/ai/apikey': 30 });
  });

  it('says path, known parameters, and how many others there were', async () => {
    const token = await child.token('admin');
    await child.ask('GET', '/repo/shop/ai/apikey?limit=5&actor=ada&x-y=1', { token });
    await eventually(() => child.output().includes('"limit":"5"'));
    const line =
      child
        .output()
        .split('\n')
        .find((text) => text.includes('"limit":"5"')) ?? '';
    expect(JSON.parse(line)).toMatchObject({
      method: 'GET',
      path: '/repo/shop/ai/apikey',
      query: { limit: '5' },
      otherParameters: 2,
      status: 400,
    });
  });
});

it('a path without a query has no query in its line, and is not logged in endless length', () => {
  expect(loggedUrl('/health/live')).toEqual({ path: '/health/live' });
  expect(loggedUrl(`/${'x'.repeat(5000)}`).path).toHaveLength(513);
});
