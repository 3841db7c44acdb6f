import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import type { Answer, Json } from './support/servers/service.js';

const folder = freshFolder();
let child: Child;
beforeAll(async () => {
  child = await spawnService(folder.path, { LOG_LEVEL: 'trace', RATE_LIMIT: '0' });
});
afterAll(async () => {
  await child.end('SIGKILL');
  folder.remove();
});

/** Each route of the document with a good request and bad ones, where it has been driven. */
const driven = new Set<string>();

it('no plaintext secret is anywhere but in the answer that made it', async () => {
  const token = await child.token('admin');
  const secrets: string[] = [];
  const others: Answer[] = [];
  const keys = '/repo/shop/ai/apikey';
  const drive = async (route: string, path: string, requests: Parameters<Child['ask']>[2][]) => {
    driven.add(route);
    const [method = ''] = route.split(' ');
    for (const request of requests) {
      const answer = await child.ask(method, path, request);
      if (answer.json['secret']) secrets.push(answer.json['secret'] as string);
      else others.push(answer);
    }
  };
  const body = { name: 'search', aiType: 'OPENAI' };
  const once = { 'idempotency-key': 'once' };

  await drive('POST /repo/{repoId}/ai/apikey', keys, [
    { token, body },
    { token, body, headers: once },
    { token, body, headers: once },
    { token, body: { ...body, name: 'another' }, headers: once },
    { token, body: '{' },
    { token, body: { name: 7 } },
    { body },
    { token: await child.token('viewer'), body },
  ]);
  const [known = ''] = secrets;
  const wrongPlaces = [
    { token, body: { name: known, aiType: known } },
    { token, body: `{"${known}` },
    { token: known, body },
  ];
  await drive('POST /repo/{repoId}/ai/apikey', keys, wrongPlaces);
  await drive('GET /repo/{repoId}/ai/apikey', keys, [
    { token },
    {},
    { token, headers: { 'keyledger-min-position': 'x' } },
  ]);
  const auditor = await child.token('auditor');
  const asOf = `asOf=${new Date().toISOString()}`;
  await drive('GET /repo/{repoId}/ai/apikey', `${keys}?${asOf}`, [{ token: auditor }, { token }]);
  await drive('GET /repo/{repoId}/ai/apikey', `${keys}?asOf=x`, [{ token: auditor }, { token }]);
  const listed = (await child.ask('GET', keys, { token })).json['apiKeys'] as Json[];
  const one = `${keys}/${listed[0]?.['id']}`;
  await drive('PUT /repo/{repoId}/ai/apikey/{apikeyId}', one, [
    { token, body: { name: 'x' } },
    { token, body: { name: '' } },
    {},
  ]);
  await drive('GET /repo/{repoId}/ai/apikey/{apikeyId}', one, [{ token }, {}]);
  await drive('GET /repo/{repoId}/ai/apikey/{apikeyId}', `${one}?${asOf}`, [{ token: auditor }, { token }]);
  const rotate = { token, body: { overlapSeconds: 60 }, headers: once };
  await drive('POST /repo/{repoId}/ai/apikey/{apikeyId}/rotate', `${one}/rotate`, [
    rotate,
    rotate,
    { ...rotate, body: { overlapSeconds: known } },
  ]);
  const credential = { key: listed[0]?.['key'] as string, secret: secrets.at(-1) ?? '' };
  const verifier = await child.token('verifier');
  await drive('POST /verify', '/verify', [
    { token: verifier, body: credential },
    { token: verifier, body: { ...credential, secret: known } },
    { token: verifier, body: { key: known, secret: known, aiType: known } },
    { token: known, body: credential },
  ]);
  const basic = Buffer.from(`${credential.key}:${credential.secret}`).toString('base64');
  await drive('GET /verify/forward', '/verify/forward', [
    { headers: { authorization: `Basic ${basic}` } },
    { headers: { authorization: `Bearer ${credential.key}.${credential.secret}` } },
    { headers: { 'x-api-key': credential.key, 'x-api-secret': credential.secret } },
    { headers: { 'x-api-key': known, 'x-api-secret': known } },
  ]);
  await drive('POST /repo/{repoId}/ai/apikey/{apikeyId}/suspend', `${one}/suspend`, [
    { token, body: { reason: 'odd' } },
    { token: verifier },
  ]);
  await drive('POST /repo/{repoId}/ai/apikey/{apikeyId}/resume', `${one}/resume`, [{ token }, { token }]);
  await drive('DELETE /repo/{repoId}/ai/apikey/{apikeyId}', one, [{ token }, { token }, {}]);
  await drive('GET /repo/{repoId}/ai/apikey/{apikeyId}/history', `${one}/history`, [{ token }, {}]);
  await drive('GET /repo/{repoId}/ai/audit', `/repo/shop/ai/audit?limit=1000`, [{ token }, {}]);
  const asPage = { accept: 'application/json' };
  await drive('GET /events', '/events?after=start&limit=1000', [{ token, headers: asPage }, {}]);
  await drive('GET /replica', '/replica', [{ token }, {}]);
  const at = new Date().toISOString();
  await drive('POST /replica/last-used', '/replica/last-used', [
    { token: await child.token('replica'), body: { keys: [{ id: listed[0]?.['id'], at }] } },
    { token: await child.token('replica'), body: { keys: [{ id: known, at: known }] } },
    { token, body: { keys: [] } },
  ]);
  const hooks = '/repo/shop/webhook';
  const hook = { url: 'https://hooks.example/keys' };
  await drive('POST /repo/{repoId}/webhook', hooks, [
    { token, body: hook },
    { token, body: hook, headers: once },
    { token, body: hook, headers: once },
    { token, body: { url: known } },
    { body: hook },
  ]);
  await drive('GET /repo/{repoId}/webhook', hooks, [{ token }, {}]);
  const endpoints = (await child.ask('GET', hooks, { token })).json['webhooks'] as { id: string }[];
  const endpoint = `${hooks}/${endpoints[0]?.id}`;
  const ofEndpoint = '/repo/{repoId}/webhook/{webhookId}';
  await drive(`GET ${ofEndpoint}`, endpoint, [{ token }, {}]);
  await drive(`PUT ${ofEndpoint}`, endpoint, [{ token, body: { description: 'x' } }, {}]);
  await drive(`POST ${ofEndpoint}/rotate`, `${endpoint}/rotate`, [
    { token, body: { overlapSeconds: 60 } },
    { token, body: { overlapSeconds: known } },
  ]);
  await drive(`POST ${ofEndpoint}/ping`, `${endpoint}/ping`, [{ token }, {}]);
  await drive(`POST ${ofEndpoint}/pause`, `${endpoint}/pause`, [{ token }, { token, body: '{' }]);
  await drive(`POST ${ofEndpoint}/resume`, `${endpoint}/resume`, [{ token }, {}]);
  await drive(`POST ${ofEndpoint}/replay`, `${endpoint}/replay`, [
    { token, body: { after: 'start' } },
    { token, body: { after: known } },
  ]);
  await drive(`GET ${ofEndpoint}/deliveries`, `${endpoint}/deliveries`, [{ token }, {}]);
  await drive(`GET ${ofEndpoint}/history`, `${endpoint}/history`, [{ token }, {}]);
  await drive(`DELETE ${ofEndpoint}`, endpoint, [{ token }, { token }]);
  await drive('POST /systemevent', '/systemevent', [{ token, body: { skip: 0, take: 1000 } }, { token }]);
  const marks = [{ token, body: { ids: [1, 2] } }, { token, body: { id: known } }, {}];
  await drive('POST /systemevent/read', '/systemevent/read', marks);
  await drive('DELETE /systemevent/read', '/systemevent/read', marks);
  await drive('POST /repo/{repoId}/ai/apikey', keys, [{ token, body, headers: once }]);
  const [created] = [await child.ask('POST', keys, { token, body })];
  secrets.push(created.json['secret'] as string);
  const { key, secret } = created.json;
  await drive('POST /revoke', '/revoke', [{ body: { key, secret } }, { body: { key, secret: known } }, {}]);
  await drive('GET /health/live', '/health/live', [{}]);
  await drive('GET /health/ready', '/health/ready', [{}]);
  await drive('GET', `/${randomUUID()}`, [{ token }]);
  driven.delete('GET');

  const { paths } = (await child.ask('GET', '/openapi.json')).json as { paths: Record<string, object> };
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect([...driven].sort()).toEqual(routes.sort());

  const metrics = (await child.ask('GET', '/metrics')).text;
  const files = readdirSync(folder.path).map((file) => readFileSync(join(folder.path, file), 'latin1'));
  const places = {
    output: child.output(),
    metrics,
    answers: others.map(({ text }) => text).join('\n'),
    files: files.join('\n'),
  };
  expect(secrets.length).toBeGreaterThanOrEqual(10);
  expect(places.output.split('\n').length).toBeGreaterThan(15);
  expect(places.files).toContain('ApiKeyCreated');
  for (const secret of secrets) {
    for (const [place, text] of Object.entries(places)) {
      for (const form of [secret, Buffer.from(secret).toString('base64'), secret.slice(7, -6)]) {
        expect([place, text.includes(form)]).toEqual([place, false]);
      }
    }
  }
  for (const text of [token, readFileSync(join(folder.path, 'master.keys'), 'utf8').trim().slice(3)]) {
    expect(Object.values({ ...places, files: '' }).join('\n')).not.toContain(text);
  }
});
