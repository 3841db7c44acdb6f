import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { openDeliveryStore } from '../src/subscribers/webhooks/open.js';
import { eventually } from './support/assertions/eventually.js';
import { untilAvailable } from './support/contracts/delivery-store.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import { exclusiveCombinations } from './support/servers/combinations.js';
import { type Receiver, startReceiver } from './support/servers/receiver.js';

describe.each(exclusiveCombinations)('instances that share webhooks on $name', ({ start }) => {
  let parts: Awaited<ReturnType<typeof start>>;
  let folder: ReturnType<typeof temporaryFolder>;
  let receiver: Receiver;
  let hooks: string;
  let keys: string;
  let token: string;
  const children: Child[] = [];
  beforeEach(async () => {
    parts = await start();
    folder = temporaryFolder();
    receiver = await startReceiver();
    const repoId = randomUUID();
    [keys, hooks] = [`/repo/${repoId}/ai/apikey`, `/repo/${repoId}/webhook`];
  }, 120_000);
  afterEach(async () => {
    const living = children.splice(0).filter(({ process }) => process.exitCode === null && !process.killed);
    const { json } = (await living[0]?.ask('GET', hooks, { token })) ?? { json: { webhooks: [] } };
    for (const { id } of json['webhooks'] as { id: string }[]) {
      await living[0]?.ask('DELETE', `${hooks}/${id}`, { token });
    }
    for (const child of living) await child.end('SIGKILL');
    await receiver.stop();
    folder.remove();
    await parts.stop();
  }, 120_000);

  async function serve(): Promise<Child> {
    const child = await spawnService(folder.path, {
      RATE_LIMIT: '0',
      WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8',
      ...parts.settings,
    });
    children.push(child);
    token = await child.token('admin');
    return child;
  }
  async function register(child: Child, count: number): Promise<string[]> {
    const paths = Array.from({ length: count }, (_, n) => `/hook/${n}`);
    for (const path of paths) {
      const body = { url: receiver.url.replace('/hook', path), types: ['ApiKeyCreated'] };
      expect((await child.ask('POST', hooks, { token, body })).status).toBe(201);
    }
    return paths;
  }
  async function createKeys(child: Child, count: number): Promise<string[]> {
    const ids: string[] = [];
    while (ids.length < count) {
      const body = { name: `key ${ids.length}`, aiType: 'AWS' };
      ids.push((await child.ask('POST', keys, { token, body })).json['id'] as string);
    }
    return ids;
  }
  /** Keys whose events an endpoint received, call by call. */
  const deliveredKeys = (path: string) =>
    receiver.calls
      .filter((call) => call.path === path)
      .map(({ event }) => (event as unknown as { subject: string }).subject);
  const deliveredEverywhere = (paths: readonly string[], ids: readonly string[]) =>
    eventually(() => paths.every((path) => new Set(deliveredKeys(path)).size === ids.length));
  /** Number of webhook calls that an instance has made. */
  async function callsOf(child: Child): Promise<number> {
    const { text } = await child.ask('GET', '/metrics');
    return [...text.matchAll(/^keyledger_webhook_calls_total\{[^}]*\} (\d+)$/gm)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
  }
  /** Creates keys, one when the last is delivered everywhere, until an instance that joined has made a call. */
  const callsWithMoreKeys = (joined: Child, paths: readonly string[], ids: string[]) =>
    eventually(async () => {
      ids.push(...(await createKeys(joined, 1)));
      await deliveredEverywhere(paths, ids);
      return (await callsOf(joined)) > 0;
    });
  /** Asserts that an endpoint received each key in order; a call repeats the newest event, or delivers the next. */
  function expectInOrder(path: string, ids: readonly string[]): void {
    const places = deliveredKeys(path).map((id) => ids.indexOf(id));
    const steps = places.map((place, n) => place - (places[n - 1] ?? -1));
    expect([path, steps.filter((step) => step !== 0 && step !== 1)]).toEqual([path, []]);
    expect(new Set(places).size).toBe(ids.length);
  }

  it('each tell some of the endpoints, and every event once; when one stops, the other tells them all', async () => {
    const [one, two] = [await serve(), await serve()];
    const paths = await register(one, 20);
    const ids = await createKeys(one, 3);
    ids.push(...(await createKeys(two, 3)));
    await deliveredEverywhere(paths, ids);
    for (const path of paths) expect([path, deliveredKeys(path)]).toEqual([path, ids]);
    expect(await callsOf(one)).toBeGreaterThan(0);
    expect(await callsOf(two)).toBeGreaterThan(0);

    expect(await one.end('SIGTERM')).toBe(0);
    ids.push(...(await createKeys(two, 3)));
    await deliveredEverywhere(paths, ids);
    for (const path of paths) expectInOrder(path, ids);

    const three = await serve();
    await callsWithMoreKeys(three, paths, ids);
    for (const path of paths) expectInOrder(path, ids);
  }, 90_000);

  it('of which one is killed while a third of the calls fail miss nothing, and keep the order', async () => {
    const both = [await serve(), await serve()];
    receiver.answer = () => ({ status: receiver.calls.length % 3 === 0 ? 500 : 204 });
    const paths = await register(both[0] as Child, 6);
    const ids = await createKeys(both[1] as Child, 10);
    await eventually(() => receiver.calls.length >= 20);
    const calls = await Promise.all(both.map(callsOf));
    const [victim, survivor] = ((calls[0] ?? 0) > (calls[1] ?? 0) ? both : [...both].reverse()) as [Child, Child];
    await victim.end('SIGKILL');
    expect(paths.every((path) => new Set(deliveredKeys(path)).size === ids.length)).toBe(false);
    ids.push(...(await createKeys(survivor, 2)));
    await deliveredEverywhere(paths, ids);
    for (const path of paths) expectInOrder(path, ids);
    expect(receiver.calls.length).toBeGreaterThan(paths.length * ids.length);
  }, 120_000);

  it('never call an endpoint at the same time: one that joins waits for a call that outlives a lease', async () => {
    const one = await serve();
    const paths = await register(one, 8);
    const releases = paths.map((path) => receiver.hold(path));
    const ids = await createKeys(one, 1);
    await eventually(() => receiver.calls.length === paths.length);
    const began = performance.now();
    const two = await serve();
    ids.push(...(await createKeys(two, 1)));
    // Longer than a lease, and shorter than the timeout of a call.
    await eventually(() => performance.now() - began > 7500);
    expect(receiver.calls).toHaveLength(paths.length);
    for (const release of releases) release();
    await deliveredEverywhere(paths, ids);
    await callsWithMoreKeys(two, paths, ids);
    for (const path of paths) expect([path, deliveredKeys(path)]).toEqual([path, ids]);
  }, 60_000);

  it('that stop leave nothing that the next one would have to wait for', async () => {
    const first = await serve();
    const [path = ''] = await register(first, 1);
    await createKeys(first, 1);
    await eventually(() => deliveredKeys(path).length === 1);
    const logId = receiver.calls[0]?.event.position?.split(':')[0] ?? '';
    const { json } = await first.ask('GET', hooks, { token });
    const [{ id = '' } = {}] = json['webhooks'] as { id?: string }[];
    await first.ask('POST', `${hooks}/${id}/pause`, { token });
    expect(await first.end('SIGTERM')).toBe(0);
    const { READ_MODEL_URL = 'memory:', REDIS_PREFIX = '' } = parts.settings;
    const file = join(folder.path, 'deliveries.db');
    const logger = pino({ level: 'silent' });
    const store = await untilAvailable(openDeliveryStore(READ_MODEL_URL, file, REDIS_PREFIX, logId, logger));
    expect((await store.cursor(id))?.eventId).toBe(receiver.calls[0]?.event.id);
    expect(await store.acquireLeases('next', [id], 1)).toEqual(new Set([id]));
    expect(await store.heartbeat('next', 1)).toEqual(['next']);
    await store.close();
  }, 120_000);

  it('that stop break off a call that is not answered; the next one makes it again', async () => {
    const first = await serve();
    const [path = ''] = await register(first, 1);
    receiver.answer = () => 'silence';
    const ids = await createKeys(first, 2);
    await eventually(() => deliveredKeys(path).length === 1);
    expect(await first.end('SIGTERM')).toBe(0);
    receiver.answer = () => ({ status: 204 });
    const second = await serve();
    ids.push(...(await createKeys(second, 1)));
    await deliveredEverywhere([path], ids);
    expect(deliveredKeys(path)).toEqual([ids[0], ...ids]);
  }, 120_000);
});
