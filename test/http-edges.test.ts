import { connect } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import { type Running, runService } from './support/servers/service.js';

let service: Running | undefined;
afterEach(() => service?.stop());
const start = async (settings: NodeJS.ProcessEnv = {}) => {
  service = await runService(settings);
  return service;
};

/** Answer of the server to bytes that need not be HTTP. */
const raw = (url: string, bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(bytes));
    let answer = '';
    socket.setEncoding('utf8').on('data', (text) => {
      answer += text;
    });
    socket.on('error', reject).on('close', () => resolve(answer));
  });
const statusOf = (answer: string) => Number(answer.split(' ')[1]);
const bodyOf = (answer: string) =>
  JSON.parse(answer.slice(answer.indexOf('\r\n\r\n'))) as { code: string; requestId: string };

describe('what is no request', () => {
  it.each([
    ['no HTTP', 'GARBAGE\r\n\r\n', 400, 'INVALID_INPUT'],
    ['too large headers', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431, 'HEADERS_TOO_LARGE'],
    ['no Host', 'GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'INVALID_INPUT'],
    [
      'an expectation',
      'GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nConnection: close\r\n\r\n',
      417,
      'EXPECTATION_FAILED',
    ],
    [
      'two lengths',
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
      400,
      'INVALID_INPUT',
    ],
  ])('(%s) gets the envelope', async (_, bytes, status, code) => {
    const answer = await raw((await start()).url, bytes);
    expect(statusOf(answer)).toBe(status);
    expect(bodyOf(answer)).toMatchObject({ success: false, code, requestId: expect.stringMatching(/./) });
    expect(answer.toLowerCase()).toContain(`x-request-id: ${bodyOf(answer).requestId}`);
  });
});

describe('headers', () => {
  it('of any number are all read', async () => {
    const { url, token } = await start();
    const filler = 'a:\r\n'.repeat(2100);
    const bearer = await token('viewer');
    const request = `GET /repo/shop/ai/apikey HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${filler}Authorization: Bearer ${bearer}\r\n\r\n`;
    expect(statusOf(await raw(url, request))).toBe(200);
  });
});

describe('the rate limit', () => {
  it('counts each caller, and tells when to come again', async () => {
    const { ask, token } = await start({ RATE_LIMIT: '3' });
    const [ada, bob] = [await token('viewer', 'shop', 'ada'), await token('viewer', 'shop', 'bob')];
    const list = (as: string) => ask('GET', '/repo/shop/ai/apikey', { token: as });
    const answers = [await list(ada), await list(ada), await list(ada), await list(ada)];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429]);
    expect(answers[0]?.headers.get('ratelimit-limit')).toBe('3');
    expect(answers[0]?.headers.get('ratelimit-remaining')).toBe('2');
    expect(answers[3]?.json).toMatchObject({ success: false, code: 'RATE_LIMITED' });
    expect(Number(answers[3]?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await list(bob)).status).toBe(200);
  });

  it('counts callers without a valid token by their address', async () => {
    const { ask } = await start({ RATE_LIMIT: '2' });
    const statuses = [];
    for (const token of ['x', 'y', 'z']) statuses.push((await ask('GET', '/repo/shop/ai/apikey', { token })).status);
    expect(statuses).toEqual([401, 401, 429]);
    expect((await ask('GET', '/health/ready')).status).toBe(200);
  });

  it('of 0 is off', async () => {
    const { ask, token } = await start({ RATE_LIMIT: '0' });
    const { headers } = await ask('GET', '/repo/shop/ai/apikey', { token: await token('viewer') });
    expect(headers.has('ratelimit-limit')).toBe(false);
  });
});

describe('CORS', () => {
  it('lets the named origins in, and reads our headers', async () => {
    const { ask } = await start({ CORS_ORIGIN: 'https://a.example, https://b.example' });
    const preflight = await ask('OPTIONS', '/repo/shop/ai/apikey', {
      headers: { origin: 'https://b.example', 'access-control-request-method': 'POST' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://b.example');
    const answer = await ask('GET', '/health/live', { headers: { origin: 'https://a.example' } });
    expect(answer.headers.get('access-control-expose-headers')).toContain('Keyledger-Position');
    const other = await ask('GET', '/health/live', { headers: { origin: 'https://evil.example' } });
    expect(other.headers.get('access-control-allow-origin')).not.toBe('https://evil.example');
  });
});

describe('the documents', () => {
  it('/openapi.json is OpenAPI 3.1 that a linter finds nothing in, and names every call', async () => {
    const { text, json } = await (await start()).ask('GET', '/openapi.json');
    expect(json['openapi']).toMatch(/^3\.1\./);
    const config = await createConfig({ extends: ['recommended'] });
    const problems = await lintFromString({ source: text, config });
    expect(problems.map(({ message, location }) => [message, location[0]?.pointer])).toEqual([]);
    expect(Object.keys(json['paths'] as object).sort()).toEqual([
      '/events',
      '/health/live',
      '/health/ready',
      '/replica',
      '/replica/last-used',
      '/repo/{repoId}/ai/apikey',
      '/repo/{repoId}/ai/apikey/{apikeyId}',
      '/repo/{repoId}/ai/apikey/{apikeyId}/history',
      '/repo/{repoId}/ai/apikey/{apikeyId}/resume',
      '/repo/{repoId}/ai/apikey/{apikeyId}/rotate',
      '/repo/{repoId}/ai/apikey/{apikeyId}/suspend',
      '/repo/{repoId}/ai/audit',
      '/repo/{repoId}/webhook',
      '/repo/{repoId}/webhook/{webhookId}',
      '/repo/{repoId}/webhook/{webhookId}/deliveries',
      '/repo/{repoId}/webhook/{webhookId}/history',
      '/repo/{repoId}/webhook/{webhookId}/pause',
      '/repo/{repoId}/webhook/{webhookId}/ping',
      '/repo/{repoId}/webhook/{webhookId}/replay',
      '/repo/{repoId}/webhook/{webhookId}/resume',
      '/repo/{repoId}/webhook/{webhookId}/rotate',
      '/revoke',
      '/systemevent',
      '/systemevent/read',
      '/verify',
      '/verify/forward',
    ]);
  });

  it('/docs is a page that may load its own scripts', async () => {
    const { status, text, headers } = await (await start()).ask('GET', '/docs/');
    expect(status).toBe(200);
    expect(text).toContain('swagger-ui');
    expect(headers.get('content-security-policy')).toContain("script-src 'self'");
  });
});

describe('/metrics', () => {
  it('counts requests, appends and conflicts, and shows the projector', async () => {
    const { ask, token } = await start();
    const admin = await token('admin');
    const body = { name: 'x', aiType: 'AWS' };
    for (let i = 0; i < 2; i++) {
      await ask('POST', '/repo/shop/ai/apikey', { token: admin, body, headers: { 'idempotency-key': 'a' } });
    }
    const { text, headers } = await ask('GET', '/metrics');
    expect(headers.get('content-type')).toContain('text/plain');
    for (const line of [
      'keyledger_appends_total{outcome="appended"} 1',
      'keyledger_appends_total{outcome="conflict"} 1',
      'keyledger_http_request_duration_seconds_count{method="POST",route="/repo/:repoId/ai/apikey",status="201"} 2',
      'keyledger_projector_lag_seconds 0',
      'keyledger_projector_position 3',
      'keyledger_quarantined_streams 0',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
  });
});
