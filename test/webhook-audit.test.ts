import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { webhookStream } from '../src/domain/webhook.js';
import { eventually } from './support/assertions/eventually.js';
import { withLogAt } from './support/fixtures/log-copies.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { CLI } from './support/servers/child-service.js';
import { type Receiver, startReceiver } from './support/servers/receiver.js';
import { type Json, type Running, runService, tokenFor } from './support/servers/service.js';

const hooks = '/repo/shop/webhook';
const ALLOW = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1/32' };
let service: Running;
let receiver: Receiver;
let token: string;
beforeEach(async () => {
  service = await runService(ALLOW);
  receiver = await startReceiver();
  token = await service.token('admin');
});
afterEach(async () => {
  await receiver.stop();
  await service.stop();
});

const ask = (method: string, path: string, body?: unknown) => service.ask(method, path, { token, body });
const register = async () => (await ask('POST', hooks, { url: receiver.url })).json['id'] as string;
const create = () => ask('POST', '/repo/shop/ai/apikey', { name: 'x', aiType: 'AWS' });
const cli = (folder: string, ...args: string[]) =>
  new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    const env = { PATH: process.env['PATH'], DATA_DIR: folder };
    execFile(process.execPath, [CLI, ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
const jsonLines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Json);
const append = (webhookId: string, type: string, data: object, revision: number) =>
  withLogAt(service.config.EVENT_STORE_URL, (log) => {
    const metadata = {
      schemaVersion: 1,
      occurredAt: new Date().toISOString(),
      actor: { issuer: 'test', subject: 'eve' },
      requestId: 'r',
      $correlationId: 'r',
      $causationId: 'c',
    };
    return log.append(webhookStream(webhookId), [{ id: randomUUID(), type, data, metadata }], revision);
  });

describe('the audit tools', () => {
  it('find what is wrong in the stream of a webhook, and nothing where all is right', async () => {
    const [sound, broken, senseless] = [await register(), await register(), await register()];
    expect((await cli(service.folder, 'audit', 'verify')).status).toBe(0);
    await append(broken, 'WebhookBlessed', {}, 0);
    await append(senseless, 'WebhookResumed', { webhookId: senseless, repoId: 'bank' }, 0);
    const { status, stdout } = await cli(service.folder, 'audit', 'verify', '--json');
    expect(status).toBe(1);
    const faults = jsonLines(stdout).filter(({ fault }) => fault !== undefined);
    expect(faults.map(({ stream, fault }) => [stream, fault])).toEqual([
      [webhookStream(broken), 'unknown event type WebhookBlessed'],
      [webhookStream(senseless), 'WebhookResumed is impossible at this point of the stream'],
    ]);
    expect(stdout).not.toContain(sound);
  });

  it('tell what happened to a webhook', async () => {
    const id = await register();
    await ask('POST', `${hooks}/${id}/pause`, { reason: 'maintenance' });
    const history = await cli(service.folder, 'audit', 'history', id);
    expect(history.stdout.trim().split('\n')).toEqual([
      expect.stringMatching(/WebhookRegistered .*url="http:\/\/127/),
      expect.stringMatching(/WebhookPaused .*status "active" -> "paused".*reason="maintenance"/),
    ]);
    const events = await cli(service.folder, 'audit', 'events', '--repo', 'shop', '--type', 'WebhookPaused');
    expect(events.stdout).toMatch(new RegExp(`^.*WebhookPaused.*${id}\n$`));
    expect((await cli(service.folder, 'audit', 'history', randomUUID())).stderr).toContain('no key or webhook');
    await create();
    const system = await ask('POST', '/systemevent', { skip: 0, take: 10 });
    expect(system.json['total']).toBe(1);
  });
});

describe('a copy of a log', () => {
  it('has its webhooks, and calls nobody until they are resumed there', async () => {
    const id = await register();
    const other = await register();
    await ask('POST', `${hooks}/${other}/pause`);
    await ask('POST', `${hooks}/${other}/resume`);
    await create();
    await eventually(() => receiver.calls.filter(({ event }) => event.type === 'ApiKeyCreated').length === 2);
    const before = receiver.calls.length;
    const folder = temporaryFolder();
    for (const format of ['ndjson', 'csv', 'cloudevents']) {
      const { status, stdout } = await cli(service.folder, 'log', 'export', '--format', format);
      expect([format, status]).toEqual([format, 0]);
      expect(stdout).toContain(receiver.url);
      if (format !== 'ndjson') expect(stdout).not.toMatch(/ealed|Hash/);
      writeFileSync(join(folder.path, format), stdout);
    }
    const imported = await cli(folder.path, 'log', 'import', join(folder.path, 'ndjson'));
    expect([imported.status, imported.stderr]).toEqual([0, expect.anything()]);

    const url = `sqlite:${folder.path}/keyledger.db`;
    const keys = { MASTER_KEYS_FILE: join(service.folder, 'master.keys') };
    const copy = await runService({ ...ALLOW, ...keys, EVENT_STORE_URL: url });
    const admin = await tokenFor(copy.config, { shop: 'admin' }, 'ada');
    const there = (method: string, path: string, body?: unknown) => copy.ask(method, path, { token: admin, body });
    const { webhooks } = (await there('GET', hooks)).json as { webhooks: Json[] };
    expect(webhooks).toMatchObject(
      [id, other].map((one) => ({ id: one, status: 'paused', pausedBecause: { cause: 'imported' } })),
    );
    await there('POST', '/repo/shop/ai/apikey', { name: 'while asleep', aiType: 'AWS' });
    expect((await there('POST', `${hooks}/${id}/resume`)).json['message']).toBe('Webhook resumed');
    await there('POST', '/repo/shop/ai/apikey', { name: 'awake', aiType: 'AWS' });
    await eventually(() => receiver.calls.length > before);
    await eventually(async () => {
      const { toldTo } = (await there('GET', `${hooks}/${id}/deliveries`)).json;
      return toldTo === receiver.calls.at(-1)?.event.position;
    });
    const delivered = receiver.calls
      .slice(before)
      .map(({ event }) => (event as unknown as { data: Json }).data['name']);
    expect(delivered).toEqual(['awake']);
    await copy.stop();
    folder.remove();
  });
});
