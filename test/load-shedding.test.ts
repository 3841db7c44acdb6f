import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { load, post } from '../bench/load.js';
import { openCaller, sendAtRate } from '../bench/open-loop.js';
import { createBulkhead } from '../src/http/plugins/load-shedding.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import type { Json } from './support/servers/service.js';

/** Credential for /verify from the answer of a creation. */
const credentialOf = (made: unknown) => {
  const { key, secret } = made as Json;
  return { key, secret };
};

const PATH = '/repo/shop/ai/apikey';
const CONNECTIONS = 2000;
/** More requests than the bulkhead runs and queues. */
const TOO_MANY = 7000;
const TOO_MUCH = 'Not done: too many requests are under way; try again';

let folder: ReturnType<typeof temporaryFolder>;
let service: Child;
let authorization: string;
let create: Buffer;

beforeEach(async () => {
  folder = temporaryFolder();
  service = await spawnService(folder.path, { RATE_LIMIT: '0', LOG_LEVEL: 'warn' });
  authorization = `Bearer ${await service.token('admin')}`;
  create = post(service.url, PATH, { authorization }, { name: 'search', aiType: 'OPENAI' });
});
afterEach(async () => {
  await service.end('SIGKILL');
  folder.remove();
});

/** Another process holds the file's lock: the log accepts nothing, and answers nothing for seconds. */
function lockLog(): { release(): void } {
  const db = new DatabaseSync(join(folder.path, 'keyledger.db'));
  db.exec('PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE');
  return {
    release: () => {
      db.exec('ROLLBACK');
      db.close();
    },
  };
}

/** Many requests at once over one connection, whose answers the client does not read. */
function pipeline(request: Buffer, times: number) {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname).on('error', () => undefined);
  socket.write(Buffer.concat(new Array<Buffer>(times).fill(request)));
  return socket;
}

const refused = async () =>
  Number(/keyledger_refused_requests_total (\d+)/.exec((await service.ask('GET', '/metrics')).text)?.[1]);

const makeKeys = async (count: number) => {
  const { replies } = await load(service.url, new Array<Buffer>(count).fill(create), 64);
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([201]));
  return replies.map(({ body }) => JSON.parse(body) as { id: string; key: string; secret: string });
};

const listed = async () => {
  const { json } = await service.ask('GET', PATH, { token: await service.token('admin') });
  return (json['apiKeys'] as { id: string }[]).map(({ id }) => id).sort();
};

const createWorks = async () => {
  const { replies } = await load(service.url, [create], 1);
  return replies[0]?.status === 201;
};

/** Memory of the process, in MiB. */
const residentMiB = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${service.process.pid}/status`, 'utf8'))?.[1]) / 1024;

it('room is had by so many, waited for by so many, and beyond that refused at once', async () => {
  const bulkhead = createBulkhead({ maxConcurrent: 1, maxQueued: 2, reserved: 1 });
  expect(bulkhead.acquire()).toBe(true);
  const queued = [bulkhead.acquire(), bulkhead.acquire()];
  expect([bulkhead.acquire(), bulkhead.isFull()]).toEqual([false, true]);
  expect([bulkhead.acquireReserved(), bulkhead.acquireReserved()]).toEqual([true, false]);
  bulkhead.release();
  expect(bulkhead.acquireReserved()).toBe(true);
  bulkhead.release();
  bulkhead.release();
  expect(await queued[0]).toBe(true);
  expect([bulkhead.isFull(), await queued[1]]).toEqual([false, false]);
});

it('ten times more creations than can be done are done or refused, and what is refused is not done', async () => {
  await makeKeys(500);
  const before = await listed();
  const offered = await sendAtRate(service.url, () => create, {
    perSecond: 50_000,
    seconds: 2,
    connections: CONNECTIONS,
  });
  expect(offered.broken).toBe(0);
  expect(offered.answers).toHaveLength(offered.sent);
  const unexpected = offered.answers.filter(({ status, body }) => status !== 201 && !body.includes(TOO_MUCH));
  expect(unexpected).toEqual([]);
  const done = offered.answers.flatMap(({ status, body }) =>
    status === 201 ? [(JSON.parse(body) as { id: string }).id] : [],
  );
  expect(await listed()).toEqual([...before, ...done].sort());
  await eventually(createWorks);
}, 60_000);

it('a log that answers nothing holds up no more than there is room for; the rest is refused at once, and nothing of it is done', async () => {
  const [key] = await makeKeys(500);
  const before = await listed();
  const memory = residentMiB();
  const lock = lockLog();
  let peak = 0;
  const flood = sendAtRate(service.url, () => create, {
    perSecond: 20_000,
    seconds: 3,
    connections: CONNECTIONS * 2,
  });
  let isOver = false;
  void flood.finally(() => {
    isOver = true;
  });
  const verifier = await service.token('verifier');
  while (!isOver) {
    expect((await service.ask('GET', '/health/live')).status).toBe(200);
    const result = await service.ask('POST', '/verify', { token: verifier, body: credentialOf(key) });
    expect(result.json).toMatchObject({ valid: true });
    peak = Math.max(peak, residentMiB());
  }
  const { answers, broken, sent } = await flood;
  lock.release();
  expect([broken, answers.length]).toEqual([0, sent]);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]));
  expect(answers.filter(({ body }) => !body.includes('"code":"UNAVAILABLE"'))).toEqual([]);
  expect(answers.filter(({ body }) => body.includes(TOO_MUCH)).length).toBeGreaterThan(sent / 2);
  expect(peak - memory).toBeLessThan(400);
  await eventually(createWorks);
  expect((await listed()).length).toBe(before.length + 1);
}, 60_000);

it('what one connection sends without waiting for answers does not stay in memory', async () => {
  const memory = residentMiB();
  const lock = lockLog();
  const socket = pipeline(create, 100_000);
  await eventually(async () => (await refused()) > 0);
  let peak = 0;
  // The first answers come when the log times out: until then the service holds all accepted requests.
  const answered = once(socket, 'data');
  let hasAnswered = false;
  void answered.then(() => {
    hasAnswered = true;
  });
  await eventually(async () => {
    peak = Math.max(peak, residentMiB());
    await service.ask('GET', '/health/live');
    return hasAnswered;
  });
  socket.destroy();
  lock.release();
  expect(peak - memory).toBeLessThan(400);
}, 60_000);

it('while there is no room a creation is refused with Retry-After, and a deletion and a suspension are not', async () => {
  const [first, second] = await makeKeys(2);
  const token = await service.token('admin');
  const lock = lockLog();
  const socket = pipeline(create, 100_000);
  await eventually(async () => (await refused()) > 0);
  const changes = [
    service.ask('DELETE', `${PATH}/${first?.id}`, { token }),
    service.ask('POST', `${PATH}/${second?.id}/suspend`, { token, body: {} }),
  ];
  // Whenever the log times out there is room for a moment, until the socket's next requests take it.
  await eventually(async () => {
    const { status, json, headers } = await service.ask('POST', PATH, {
      token,
      body: { name: 'search', aiType: 'OPENAI' },
    });
    if (json.message !== TOO_MUCH) return false;
    expect([status, json.code, headers.get('retry-after')]).toEqual([503, 'UNAVAILABLE', '1']);
    return true;
  });
  // The service logs no line for each of thousands.
  expect(service.output()).not.toContain(TOO_MUCH);
  lock.release();
  // The log received these, and may have timed out by now.
  for (const { status, text } of await Promise.all(changes)) {
    expect([200, 503]).toContain(status);
    expect(text).not.toContain(TOO_MUCH);
  }
  socket.destroy();
}, 60_000);

it('connections that break while their requests are under way take no room with them', async () => {
  for (let time = 0; time < 3; time++) {
    const lock = lockLog();
    const before = await refused();
    const socket = pipeline(create, TOO_MANY);
    await eventually(async () => (await refused()) > before);
    socket.destroy();
    lock.release();
    await eventually(createWorks);
  }
  // As many at once as the bulkhead runs, without its queue.
  const { replies } = await load(service.url, new Array<Buffer>(3000).fill(create), 900);
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([201]));
}, 60_000);

it('an endless event stream takes no room', async () => {
  const token = await service.token('admin');
  const left = new AbortController();
  const follow = () => fetch(`${service.url}/events`, { headers: { authorization }, signal: left.signal });
  const followers = await Promise.all(Array.from({ length: 300 }, follow));
  expect(new Set(followers.map(({ status }) => status))).toEqual(new Set([200]));
  expect((await service.ask('GET', PATH, { token })).status).toBe(200);
  left.abort();
}, 60_000);

it('a verification waits for one list, not for all of them', async () => {
  const [key] = await makeKeys(3000);
  const host = new URL(service.url).host;
  // Scans all keys and returns none, so that the scan takes the time.
  const list = Buffer.from(
    `GET ${PATH}?status=suspended HTTP/1.1\r\nhost: ${host}\r\nauthorization: ${authorization}\r\n\r\n`,
  );
  const verifier = `Bearer ${await service.token('verifier')}`;
  const verify = post(service.url, '/verify', { authorization: verifier }, credentialOf(key));
  const readers = await Promise.all(Array.from({ length: 90 }, () => openCaller(service.url)));
  const gateway = await openCaller(service.url);
  // All requests are there when the process continues.
  service.process.kill('SIGSTOP');
  let lists = 0;
  const answers = readers.map(async ({ ask }) => {
    const answer = await ask(list);
    lists++;
    return answer?.status;
  });
  const result = gateway.ask(verify);
  await eventually(() => readers.every(({ socket }) => socket.writableLength === 0));
  service.process.kill('SIGCONT');
  expect((await result)?.body).toContain('"valid":true');
  expect(lists).toBeLessThan(45);
  expect(new Set(await Promise.all(answers))).toEqual(new Set([200]));
  for (const { socket } of [...readers, gateway]) socket.destroy();
}, 60_000);

it('a burst of connections waits to be accepted instead of being turned away', async () => {
  service.process.kill('SIGSTOP');
  const { hostname, port } = new URL(service.url);
  const sockets = Array.from({ length: CONNECTIONS }, () => connect(Number(port), hostname));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  service.process.kill('SIGCONT');
  for (const socket of sockets) socket.destroy();
});
