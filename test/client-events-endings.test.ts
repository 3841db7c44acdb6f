import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import type { ClientOptions, EventsOptions } from '../src/sdk/client/index.js';
import { eventually } from './support/assertions/eventually.js';
import {
  client,
  errorOf,
  key,
  proxy,
  repoId,
  runClientAndService,
  service,
  token,
} from './support/servers/client-and-service.js';
import { tokenFor } from './support/servers/service.js';
import { cut, json, type Mishap, page } from './support/servers/unreliable-proxy.js';

runClientAndService();

const next = (options: EventsOptions = {}, of: Partial<ClientOptions> = {}) => client(of).events(options).next();
const ended: Mishap = (response) =>
  response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: {"hello":"world"}\n\n');

describe('the events of a client end with an error', () => {
  const expectError = async (options: EventsOptions, of: Partial<ClientOptions>, status: number, code: string) => {
    expect(await errorOf(next(options, of))).toMatchObject({ status, code });
    expect(proxy.seen).toHaveLength(1);
  };

  it('when the service does not understand', async () => {
    await expectError({ after: 'yesterday' }, {}, 400, 'INVALID_INPUT');
  });

  it('when the token is refused', async () => {
    await expectError({}, { token: 'x' }, 401, 'UNAUTHENTICATED');
  });

  it('when the token has expired, and they say so', async () => {
    const { config } = service;
    const expired = await tokenFor(config, { '*': 'admin' }, 'ada', -60);
    const error = await errorOf(next({}, { token: expired }));
    expect(error).toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
    expect(error.message).toMatch(/^A valid bearer token is required: the token expired at \d{4}-/);
  });

  it('when the caller may not', async () => {
    const viewer = await service.token('viewer', repoId);
    await expectError({}, { token: viewer }, 403, 'FORBIDDEN');
    proxy.reset();
    const admin = await service.token('admin', repoId);
    await expectError({ repo: 'another' }, { token: admin }, 403, 'FORBIDDEN');
  });

  it('when the position is of another log', async () => {
    await expectError({ after: `${randomUUID()}:${'0'.repeat(16)}` }, {}, 409, 'OTHER_LOG');
  });

  it.each<[string, Mishap, number, string]>([
    ['there is no service', page(404), 404, 'HTTP_404'],
    ['the service redirects to another URL', page(308, { location: '/' }), 308, 'REDIRECTED'],
    ['a page answers', page(200), 200, 'BAD_ANSWER'],
    ['the stream is another one', ended, 200, 'BAD_ANSWER'],
  ])('when %s', async (_, mishap, status, code) => {
    proxy.mishaps = [mishap];
    await expectError({}, {}, status, code);
  });

  it('when every token is refused', async () => {
    let asked = 0;
    const give = async () => `x${asked++}`;
    expect(await errorOf(next({}, { token: give }))).toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(asked).toBeGreaterThan(1);
    expect(proxy.seen).toHaveLength(asked);
  });

  it('when there is no token, with what its function threw', async () => {
    const refused = new Error('no token for you');
    const give = () => Promise.reject(refused);
    await expect(next({}, { token: give })).rejects.toBe(refused);
    expect(proxy.seen).toEqual([]);
  });
});

describe('the events of a client continue', () => {
  it.each<[string, Mishap]>([
    ['the connection is cut', cut],
    ['there are too many requests', json(429, { success: false, code: 'RATE_LIMITED' }, { 'retry-after': '0' })],
    ['the service has a fault', json(500, { success: false, code: 'INTERNAL' })],
    ['a proxy has a fault', page(502)],
    ['the request does not arrive in time', json(408, { success: false, code: 'TIMEOUT' })],
    ['a proxy has only its early data', page(425)],
  ])('although %s', async (_, mishap) => {
    proxy.mishaps = [mishap, mishap];
    const { id } = await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    expect(await next({ after: 'start', repo: repoId })).toMatchObject({ value: { subject: id } });
    expect(proxy.seen).toHaveLength(3);
  });

  it('with another token, where the one that they got was old', async () => {
    const tokens = ['old', token];
    const { id } = await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    const give = () => tokens.shift() as string;
    const event = await next({ after: 'start', repo: repoId }, { token: give });
    expect(event).toMatchObject({ value: { subject: id } });
  });

  it('although what gives tokens gives the old one again and again, once they have begun', async () => {
    const { id } = await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    const cutLater: Mishap = async (response, _, stream) => {
      await stream(/caught-up/);
      response.destroy();
    };
    proxy.mishaps = [cutLater];
    let refused = 0;
    const give = () => (proxy.seen.length === 0 || refused++ === 5 ? token : 'old');
    const events = client({ token: give }).events({ after: 'start', repo: repoId });
    expect(await events.next()).toMatchObject({ value: { subject: id } });
    const second = await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    expect(await events.next()).toMatchObject({ value: { subject: second.id } });
    expect(refused).toBe(6);
    await events.return?.(undefined);
  });
});

describe('the connection of a client is closed', () => {
  /**
   * Passes a stream through.
   * @returns whether it has begun, and whether the client has closed it
   */
  function watched() {
    const seen = { begun: false, closed: false };
    const mishap: Mishap = async (response, _, stream) => {
      seen.begun = true;
      void once(response, 'close').then(() => {
        seen.closed = true;
      });
      await stream(Number.POSITIVE_INFINITY);
    };
    return { seen, mishap };
  }

  it('when the loop ends, without an error', async () => {
    const { seen, mishap } = watched();
    proxy.mishaps = [mishap];
    await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    for await (const event of client().events({ after: 'start', repo: repoId })) {
      expect(event.type).toBe('ApiKeyCreated');
      break;
    }
    await eventually(() => seen.closed);
    expect(proxy.seen).toHaveLength(1);
  });

  it('when the loop throws, with what it throws', async () => {
    const { seen, mishap } = watched();
    proxy.mishaps = [mishap];
    await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    const loop = async () => {
      for await (const { id } of client().events({ after: 'start', repo: repoId })) throw new Error(id);
    };
    await expect(loop()).rejects.toThrow(/^[0-9a-f-]{36}$/);
    await eventually(() => seen.closed);
  });

  it('when its signal is aborted while it waits, with the reason', async () => {
    const { seen, mishap } = watched();
    proxy.mishaps = [mishap];
    const stop = new AbortController();
    const waiting = next({ repo: repoId, signal: stop.signal });
    await eventually(() => seen.begun);
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await eventually(() => seen.closed);
  });

  it('when its signal is aborted, although more has arrived', async () => {
    for (let made = 0; made < 3; made++) {
      await client({ baseUrl: service.url }).createRepoAiApiKey(repoId, key);
    }
    const { seen, mishap } = watched();
    proxy.mishaps = [mishap];
    const stop = new AbortController();
    const events = client().events({ after: 'start', repo: repoId, signal: stop.signal });
    await events.next();
    const reason = new Error('enough');
    stop.abort(reason);
    await expect(events.next()).rejects.toBe(reason);
    await eventually(() => seen.closed);
  });

  it('and none is opened by a signal that was aborted before, or while the next try is waited for', async () => {
    const reason = new Error('enough');
    await expect(next({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(proxy.seen).toEqual([]);
    const stop = new AbortController();
    proxy.mishaps = [json(503, {}, { 'retry-after': '60' })];
    const waiting = next({ signal: stop.signal });
    await eventually(() => proxy.seen.length === 1);
    stop.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(proxy.seen).toHaveLength(1);
  });
});
