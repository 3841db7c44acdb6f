import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { answersIn, exchange } from './support/http/raw-client.js';
import { type Json, type Running, runService } from './support/servers/service.js';

/** Equivalent spellings of input, and the characters that names may hold. */

let service: Running;
let admin: string;
beforeAll(async () => {
  service = await runService({ RATE_LIMIT: '0' });
  admin = await service.token('admin', '*');
});
afterAll(() => service.stop());

const pathOf = (repoId: string) => `/repo/${repoId}/ai/apikey`;
const create = (repoId: string, body: object = {}) =>
  service.ask('POST', pathOf(repoId), { token: admin, body: { name: 'search', aiType: 'AWS', ...body } });
const made = async () => {
  const path = pathOf(randomUUID());
  const { json } = await service.ask('POST', path, { token: admin, body: { name: 'x', aiType: 'AWS' } });
  return { path, id: String(json['id']), key: String(json['key']), secret: String(json['secret']) };
};

describe('an empty body', () => {
  const types = [
    undefined,
    'application/json',
    'application/x-www-form-urlencoded',
    'text/plain',
    'application/octet-stream',
    'nonsense',
    'x/y; z',
  ];
  const raw = async (method: string, path: string, type: string | undefined, framing: string) => {
    const typed = type === undefined ? '' : `Content-Type: ${type}\r\n`;
    const end = framing.startsWith('Transfer') ? '0\r\n\r\n' : '';
    const bytes = `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${admin}\r\n${typed}${framing}\r\n\r\n${end}`;
    return answersIn(await exchange(service.url, bytes))[0];
  };

  it.each(['Content-Length: 0', 'Transfer-Encoding: chunked'])(
    'with %s is no body, whatever type it claims: suspend, resume and DELETE are done',
    async (framing) => {
      for (const type of types) {
        const { path, id } = await made();
        for (const [method, target] of [
          ['POST', `${path}/${id}/suspend`],
          ['POST', `${path}/${id}/resume`],
          ['PUT', `${path}/${id}`],
          ['DELETE', `${path}/${id}`],
        ] as const) {
          expect([type, method, (await raw(method, target, type, framing))?.status]).toEqual([type, method, 200]);
        }
      }
    },
  );

  it('is 400 where a body is needed, and a body of another type is 415', async () => {
    const path = pathOf(randomUUID());
    const answer = await raw('POST', path, 'application/x-www-form-urlencoded', 'Content-Length: 0');
    expect(answer?.status).toBe(400);
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'nonsense']) {
      const headers = { 'content-type': type };
      const typed = await service.ask('POST', path, { token: admin, body: 'name=x', headers });
      expect(typed.status).toBe(415);
    }
  });
});

it('a compressed body is 415, and says what to do', async () => {
  const sent = request(`${service.url}${pathOf(randomUUID())}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${admin}`,
      'content-type': 'application/json',
      'content-encoding': 'gzip',
    },
  }).end(gzipSync('{"name":"x","aiType":"AWS"}'));
  const [response] = await once(sent, 'response');
  expect(response.statusCode).toBe(415);
  response.setEncoding('utf8');
  let text = '';
  for await (const piece of response) text += piece;
  expect(JSON.parse(text).message).toBe('Send the body without Content-Encoding');
});

describe('what may be written in several ways', () => {
  it('a time with a lower-case t and z', async () => {
    const repoId = randomUUID();
    expect((await create(repoId, { expiresAt: '2099-01-31t12:00:00z' })).status).toBe(201);
    const { json } = await service.ask('GET', pathOf(repoId), { token: admin });
    expect((json['apiKeys'] as Json[])[0]?.['expiresAt']).toBe('2099-01-31T12:00:00.000Z');
    const now = new Date().toISOString().toLowerCase();
    const token = await service.token('auditor', repoId);
    expect((await service.ask('GET', `${pathOf(repoId)}?asOf=${now}`, { token })).status).toBe(200);
    expect((await service.ask('GET', `/repo/${repoId}/ai/audit?to=${now}`, { token })).status).toBe(200);
  });

  it('an id in capitals', async () => {
    const { path, id } = await made();
    const capitals = id.toUpperCase();
    for (const [method, target] of [
      ['GET', `${path}/${capitals}`],
      ['GET', `${path}/${capitals}/history`],
      ['POST', `${path}/${capitals}/suspend`],
      ['DELETE', `${path}/${capitals}`],
    ] as const)
      expect([target, (await service.ask(method, target, { token: admin })).status]).toEqual([target, 200]);
    const audit = path.replace('/apikey', '/audit');
    const { json } = await service.ask('GET', `${audit}?apikeyId=${capitals}&type=ApiKeyCreated`, {
      token: admin,
    });
    expect(json['events']).toHaveLength(1);
  });

  it('types with blanks between them', async () => {
    const { path } = await made();
    const target = `${path.replace('/apikey', '/audit')}?type=ApiKeyCreated,%20ApiKeyDeleted`;
    expect((await service.ask('GET', target, { token: admin })).json['events']).toHaveLength(1);
  });
});

describe('a refusal', () => {
  it('says each thing once', async () => {
    const { json } = await create(randomUUID(), { expiresAt: 'soon' });
    expect(json['message']).toBe('expiresAt: must be a time with its zone, such as 2030-01-31T12:00:00Z, or null');
  });

  it('of an address that ends in a slash says that there is nothing there', async () => {
    for (const path of ['/repo/shop/ai/apikey/', '/repo/shop/webhook/']) {
      const { status, json } = await service.ask('GET', path, { token: admin });
      expect([path, status, json['code']]).toEqual([path, 404, 'NOT_FOUND']);
    }
  });

  it.each([
    'https://127.0.0.1/hook',
    'https://10.0.0.1/hook',
    'https://169.254.169.254/latest',
    'https://[::1]/hook',
    'https://[::ffff:10.0.0.1]/hook',
    'https://0x7f.1/hook',
    'https://2130706433/hook',
  ])('comes at the registration of the webhook %s, and at its change', async (url) => {
    const path = `/repo/${randomUUID()}/webhook`;
    const message = 'url: its address is neither public nor in WEBHOOK_ALLOWED_NETWORKS';
    const refused = await service.ask('POST', path, { token: admin, body: { url } });
    expect([refused.status, refused.json['message']]).toEqual([400, message]);
    const good = await service.ask('POST', path, { token: admin, body: { url: 'https://hooks.example/x' } });
    const change = await service.ask('PUT', `${path}/${good.json['id']}`, { token: admin, body: { url } });
    expect([change.status, change.json['message']]).toEqual([400, message]);
  });
});

describe('names, reasons and descriptions', () => {
  const refused = ['\u200b', '\u2060\u200d', '\ufe0f', '\u3164', '\u2800', '\u00ad', 'a\u202eb', '\u2066a\u2069'];
  const taken = [
    'Zoë',
    'नमस्ते',
    'می‌خواهم',
    '👩‍👩‍👧‍👦',
    '❤️',
    'שלום\u200f (x)',
    'a\u200bb',
    '日本語 キー',
    'soft\u00adhyphen',
  ];

  it('of only invisible characters, or with bidirectional controls, are refused', async () => {
    const { path, id } = await made();
    for (const text of refused) {
      const calls = [
        ['POST', path, { name: text, aiType: 'AWS' }],
        ['PUT', `${path}/${id}`, { name: text }],
        ['POST', `${path}/${id}/suspend`, { reason: text }],
        ['POST', path.replace('/ai/apikey', '/webhook'), { url: 'https://hooks.example/', description: text }],
      ] as const;
      for (const [method, target, body] of calls) {
        const { status } = await service.ask(method, target, { token: admin, body });
        expect([JSON.stringify(text), method, target, status]).toEqual([JSON.stringify(text), method, target, 400]);
      }
    }
  });

  it('with the joiners and marks of ordinary text are taken as they are', async () => {
    const repoId = randomUUID();
    for (const name of taken) expect([name, (await create(repoId, { name })).status]).toEqual([name, 201]);
    const { json } = await service.ask('GET', pathOf(repoId), { token: admin });
    expect((json['apiKeys'] as Json[]).map(({ name }) => name).reverse()).toEqual(taken);
  });
});

describe('the staleness of a verification', () => {
  it('is that of its own time, not of the beginning of its request', async () => {
    const { key, secret } = await made();
    const token = await service.token('verifier', '*');
    const body = JSON.stringify({ key, secret });
    const sent = request(`${service.url}/verify`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'content-length': body.length,
        expect: '100-continue',
      },
    });
    sent.flushHeaders();
    await once(sent, 'continue');
    const metrics = async () => (await service.ask('GET', '/metrics')).text;
    const stalenessNow = async () => Number(/^keyledger_verify_staleness_seconds (\S+)$/m.exec(await metrics())?.[1]);
    // The projector reads the log's end once a second: just after that, the staleness is lowest.
    let before = await stalenessNow();
    for (let now = before; now >= before; now = await stalenessNow()) before = now;
    for (let now = await stalenessNow(); now < 0.7; now = await stalenessNow());
    sent.end(body);
    const [response] = await once(sent, 'response');
    response.resume();
    expect(Number(response.headers['keyledger-staleness'])).toBeGreaterThanOrEqual(0.7);
  });
});
