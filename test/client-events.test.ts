import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { formatMessage } from '../src/http/sse/event-stream.js';
import { followEvents } from '../src/sdk/client/events.js';
import { createClient, type KeyledgerEvent } from '../src/sdk/client/index.js';
import { createTransport } from '../src/sdk/client/transport.js';
import { mintToken } from '../src/security/tokens.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { spawnService } from './support/servers/child-service.js';
import {
  client,
  key,
  proxy,
  repoId,
  resetClientAndProxy,
  runClientAndService,
  service,
  token,
} from './support/servers/client-and-service.js';
import { freePort } from './support/servers/redis-server.js';
import {
  cut,
  json,
  type Mishap,
  page,
  streamCut,
  streamEnded,
  streamSilent,
} from './support/servers/unreliable-proxy.js';

runClientAndService();

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** Creates a key without the proxy in between. */
const create = (name: string, repo = repoId) =>
  createClient({ baseUrl: service.url, token }).createRepoAiApiKey(repo, { ...key, name });
const LAST = 'the last';
const nameOf = ({ data }: KeyledgerEvent) => data['name'] as string;

/** Names of the keys in these events, up to and including the last. */
async function namesUntilLast(events: AsyncIterable<KeyledgerEvent>): Promise<string[]> {
  const names: string[] = [];
  for await (const event of events) {
    names.push(nameOf(event));
    if (nameOf(event) === LAST) break;
  }
  return names;
}
const opened = () => proxy.seen.map(({ url }) => new URL(url, proxy.url).searchParams.get('after'));

describe('the events of a client', () => {
  it('are those that the service tells, typed as they come', async () => {
    const { id } = await create('a');
    await create(LAST);
    const received: KeyledgerEvent[] = [];
    for await (const event of client().events({ after: 'start', repo: repoId })) {
      received.push(event);
      if (nameOf(event) === LAST) break;
    }
    expect(received).toMatchObject([
      { type: 'ApiKeyCreated', subject: id, data: { repoId, revision: 0, name: 'a' } },
      { type: 'ApiKeyCreated', data: { repoId, name: LAST } },
    ]);
    const events = client().events({ after: received[0]?.position, repo: repoId });
    expect(await events.next()).toEqual({ done: false, value: received[1] });
    await events.return?.();
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });

  it('are of those types only that are asked for', async () => {
    const { id } = await create('a');
    await client().updateRepoAiApiKey(repoId, id, { name: LAST });
    const types = ['ApiKeyRenamed', 'ApiKeyDeleted'];
    expect(await namesUntilLast(client().events({ after: 'start', repo: repoId, types }))).toEqual([LAST]);
  });

  it('each come once and in order, wherever connections are cut, while others write', async () => {
    const mishap = fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 4000 }).map(streamCut) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 4000 }).map(streamEnded) },
      fc.constantFrom<Mishap>(cut, page(502), page(500), json(429, {}, { 'retry-after': '0' })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(mishap, { minLength: 3, maxLength: 6 }), async (mishaps) => {
        resetClientAndProxy();
        const names = Array.from({ length: 40 }, (_, i) => `key ${i} ü€𝄞`);
        for (const name of names.slice(0, 20)) await create(name);
        proxy.mishaps = mishaps;
        const received = namesUntilLast(client().events({ after: 'start', repo: repoId }));
        for (const name of names.slice(20)) await create(name);
        await eventually(() => proxy.mishaps.length === 0);
        await create(LAST);
        expect(await received).toEqual([...names, LAST]);
      }),
      { numRuns: 6, endOnFailure: true },
    );
  }, 120_000);

  it('begin now, and resume there even if the first connection delivers none', async () => {
    const createdMeanwhile: Mishap = async (response) => {
      await create('while it was away');
      response.destroy();
    };
    await create('before');
    proxy.mishaps = [streamEnded(/position.*\n\n/), page(503), createdMeanwhile];
    const received = namesUntilLast(client().events({ repo: repoId }));
    await eventually(() => proxy.mishaps.length === 0);
    await create(LAST);
    expect(await received).toEqual(['while it was away', LAST]);
    const [first, ...later] = opened();
    expect(first).toBeNull();
    expect(later).toEqual(Array(later.length).fill(later[0]));
    expect(later[0]).toMatch(/:/);
  });

  it('resume after a heartbeat, not after the last event long ago', async () => {
    await create('a');
    await create('of others', `${repoId}-other`);
    proxy.mishaps = [streamEnded(/caught-up\n.*\n.*\n\n/)];
    const events = client().events({ after: 'start', repo: repoId, types: ['ApiKeyCreated'] });
    const { value } = await events.next();
    const next = events.next();
    await eventually(() => proxy.seen.length === 2);
    await create(LAST);
    expect(nameOf((await next).value)).toBe(LAST);
    expect((opened()[1] as string) > value.position).toBe(true);
    await events.return?.();
  });

  it('resume after a long silence, even if no error reports a dead connection', async () => {
    await create('a');
    await create(LAST);
    let closed = 0;
    const silent =
      (bytes: number): Mishap =>
      async (response, pass, stream) => {
        response.once('close', () => closed++);
        await streamSilent(bytes)(response, pass, stream);
      };
    proxy.mishaps = [silent(5), silent(700), silent(900)];
    const { open } = createTransport({ baseUrl: proxy.url, token });
    expect(await namesUntilLast(followEvents(open, { after: 'start', repo: repoId }, 200))).toEqual(['a', LAST]);
    await eventually(() => closed === 3);
  });

  it('outlive the service: killed, stopped and started again', async () => {
    const folder = temporaryFolder();
    const settings = { PORT: String(await freePort()), RATE_LIMIT: '0' };
    let child = await spawnService(folder.path, settings);
    const mine = createClient({ baseUrl: child.url, token: await child.token('admin') });
    const names = Array.from({ length: 30 }, (_, i) => `key ${i}`);
    const received: string[] = [];
    const loop = (async () => {
      for await (const event of mine.events({ after: 'start' })) {
        received.push(nameOf(event));
        if (nameOf(event) === LAST) return;
      }
    })();
    for (const [i, name] of names.entries()) {
      await mine.createRepoAiApiKey('shop', { ...key, name });
      if (i % 10 !== 9) continue;
      await eventually(() => received.length > i - 5);
      await child.end(i === 9 ? 'SIGTERM' : 'SIGKILL');
      child = await spawnService(folder.path, settings);
    }
    await mine.createRepoAiApiKey('shop', { ...key, name: LAST });
    await loop;
    expect(received).toEqual([...names, LAST]);
    await child.end('SIGKILL');
    folder.remove();
  }, 60_000);

  it('outlive their token: another one is asked for before each connection', async () => {
    const { tokens, JWT_REPOS_CLAIM: claim } = service.config;
    if (tokens.key instanceof URL) throw new Error('This service does not mint tokens');
    const source = { ...tokens, key: tokens.key };
    let asked = 0;
    const mint = () => {
      asked++;
      const who = { subject: 'ada', grants: { [repoId]: 'auditor' }, claim };
      return mintToken(source, { ...who, ttlSeconds: asked === 1 ? 3 : 3600 }, Date.now());
    };
    const received = namesUntilLast(client({ token: mint }).events());
    await eventually(() => proxy.seen.length === 2);
    await create(LAST);
    expect(await received).toEqual([LAST]);
    expect(asked).toBe(2);
  });

  it('are read only as fast as the loop takes them', async () => {
    const size = 100_000;
    let sent = 0;
    const server = createServer(async (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      while (!response.destroyed) {
        const position = String(++sent);
        const data = JSON.stringify({ position, data: { name: 'x'.repeat(size) } });
        const taken = response.write(formatMessage({ id: position, data }));
        if (!taken) await once(response, 'drain', { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
      }
    });
    stops.push(() => server.close());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const events = createClient({ baseUrl, token }).events();
    for (let taken = 1; taken <= 3; taken++) {
      expect((await events.next()).value.position).toBe(String(taken));
      for (let turn = 0; turn < 2000; turn++) await setImmediate();
      // The rest is in socket buffers.
      expect(sent * size).toBeLessThan(30_000_000);
    }
    await events.return?.();
    server.closeAllConnections();
  });
});
