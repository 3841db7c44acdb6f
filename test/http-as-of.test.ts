import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { createApp } from '../src/http/app.js';
import { createMetrics } from '../src/http/metrics.js';
import { LastUsedTracker } from '../src/last-used/last-used-tracker.js';
import { openSqliteLastUsedStore } from '../src/last-used/sqlite-last-used.js';
import { localLists } from '../src/projections/local/lists.js';
import { Projector } from '../src/projections/projector.js';
import { Queries } from '../src/projections/queries.js';
import { openSqliteReadMarks } from '../src/read-marks/sqlite-read-marks.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { WebhookDispatcher } from '../src/subscribers/webhooks/dispatcher.js';
import { WebhookSender } from '../src/subscribers/webhooks/sender.js';
import { openSqliteDeliveryStore } from '../src/subscribers/webhooks/sqlite-delivery-store.js';
import { accessesIn, accessesOf } from './support/assertions/audit-accesses.js';
import { eventually } from './support/assertions/eventually.js';
import { withMethods } from './support/fixtures/log-with-methods.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { combinations } from './support/servers/combinations.js';
import { type Answer, type Json, type Running, runService } from './support/servers/service.js';

const body = { name: 'search', aiType: 'OPENAI' };
const minus = (time: string, ms: number) => new Date(Date.parse(time) - ms).toISOString();
const keysIn = ({ json }: Answer) => json['apiKeys'] as Json[];
const idsIn = (answer: Answer) => keysIn(answer).map(({ id }) => id);
const expectError = ({ status, json }: Answer, expected: number, code: string, message = /./) => {
  expect([status, json['code']]).toEqual([expected, code]);
  expect(json['message']).toMatch(message);
};

describe.each(combinations)('as of a point in time on $name', ({ start }) => {
  let service: Running;
  let admin: string;
  let auditor: string;
  let repoId: string;
  let keys: string;
  let settings: NodeJS.ProcessEnv;
  let stopParts: () => Promise<void>;
  beforeAll(async () => {
    const parts = await start();
    stopParts = parts.stop;
    settings = { RATE_LIMIT: '0', ...parts.settings };
    service = await runService(settings);
    admin = await service.token('admin', '*');
    auditor = await service.token('auditor', '*', 'eve');
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });
  beforeEach(() => {
    repoId = randomUUID();
    keys = `/repo/${repoId}/ai/apikey`;
  });

  /** Makes a change and returns its position. */
  const change = async (method: string, path: string, what?: unknown) => {
    const { status, json, headers } = await service.ask(method, path, { token: admin, body: what });
    expect(status).toBeLessThan(300);
    const position = headers.get('keyledger-position') ?? '';
    return { id: json['id'] as string, path: `${keys}/${json['id']}`, position };
  };
  const create = (more: object = {}) => change('POST', keys, { ...body, ...more });
  const look = (path: string, asOf: string, query = '', token = auditor, headers = {}) =>
    service.ask('GET', `${path}?asOf=${encodeURIComponent(asOf)}&${query}`, { token, headers });
  /** A key as the plain call returns it, without fields that are not in the log. */
  const plain = async (path: string) => {
    const { json } = await service.ask('GET', `${path}?include=deleted`, { token: admin });
    const { lastUsedAt: _, ...rest } = json['apiKey'] as Json;
    return rest;
  };
  const accesses = async () => (await accessesOf(service.config)).filter(({ data }) => data.repoId === repoId);

  it('a key is what it was, with the position of the event that made it so', async () => {
    const created = await create();
    const wasCreated = await plain(created.path);
    const renamed = await change('PUT', created.path, { name: 'find' });
    const other = await create();
    const suspended = await change('POST', `${created.path}/suspend`, { reason: 'odd' });
    const deleted = await change('DELETE', created.path);

    const first = await look(created.path, created.position);
    const eventId = expect.stringMatching(/^[0-9a-f-]{36}$/);
    expect(first.json).toEqual({
      success: true,
      apiKey: { ...wasCreated, position: created.position, eventId },
    });
    expect(first.headers.get('keyledger-as-of')).toBe(created.position);
    expect(first.headers.get('cache-control')).toBe('no-store');
    for (const [pointInTime, is] of [
      [renamed, { name: 'find', status: 'active', position: renamed.position }],
      [other, { name: 'find', status: 'active', position: renamed.position }],
      [suspended, { name: 'find', status: 'suspended', position: suspended.position }],
    ] as const) {
      expect((await look(created.path, pointInTime.position)).json['apiKey']).toMatchObject(is);
      expect(keysIn(await look(keys, pointInTime.position)).find(({ id }) => id === created.id)).toMatchObject(is);
    }
    expect(idsIn(await look(keys, created.position))).toEqual([created.id]);
    expect(idsIn(await look(keys, other.position))).toEqual([other.id, created.id]);
    expect(idsIn(await look(keys, deleted.position))).toEqual([other.id]);
    expect(keysIn(await look(keys, deleted.position, 'include=deleted'))[1]).toEqual({
      ...(await plain(created.path)),
      position: deleted.position,
      eventId,
    });
  });

  it('a time counts what occurred up to it, the same millisecond included, in any zone', async () => {
    const { path, id } = await create();
    await eventually(async () => Date.now() > Date.parse((await plain(path))['createdAt'] as string));
    await change('DELETE', path);
    const { createdAt, deletedAt } = (await plain(path)) as Record<string, string>;
    const before = minus(createdAt ?? '', 1);
    expect(idsIn(await look(keys, before, 'include=deleted'))).toEqual([]);
    expectError(await look(path, before), 404, 'KEY_NOT_FOUND');
    expect(idsIn(await look(keys, createdAt ?? ''))).toEqual([id]);
    const alive = await look(path, minus(deletedAt ?? '', 1));
    expect(alive.json['apiKey']).toMatchObject({ status: 'active', deletedAt: null });
    expectError(await look(path, deletedAt ?? ''), 404, 'KEY_NOT_FOUND');
    const dead = await look(path, deletedAt ?? '', 'include=deleted');
    expect(dead.json['apiKey']).toMatchObject({ status: 'deleted', deletedAt });

    const elsewhere = new Date(Date.parse(createdAt ?? '') + 7_200_000).toISOString().replace('Z', '+02:00');
    for (const text of [encodeURIComponent(elsewhere), elsewhere]) {
      const answer = await service.ask('GET', `${keys}?asOf=${text}`, { token: auditor });
      expect([answer.status, answer.headers.get('keyledger-as-of')]).toEqual([200, createdAt]);
      expect(idsIn(answer)).toEqual([id]);
    }
  });

  it('an expiry is evaluated at that time, and counts from its own millisecond on', async () => {
    const expiresAt = new Date(Date.now() + 1000).toISOString();
    const { path, position } = await create({ expiresAt });
    await eventually(() => Date.now() > Date.parse(expiresAt));
    const later = await change('PUT', path, { name: 'find' });
    const statusAt = async (pointInTime: string) => (await look(path, pointInTime)).json['apiKey'];
    expect(await statusAt(minus(expiresAt, 1))).toMatchObject({ status: 'active', position });
    expect(await statusAt(expiresAt)).toMatchObject({ status: 'expired', position });
    expect(await statusAt(position)).toMatchObject({ status: 'active' });
    expect(await statusAt(later.position)).toMatchObject({ status: 'expired', name: 'find' });
    expect(keysIn(await look(keys, expiresAt, 'status=expired'))).toHaveLength(1);
    expect(keysIn(await look(keys, minus(expiresAt, 1), 'status=expired'))).toHaveLength(0);
  });

  it('lists are filtered and paged like current ones', async () => {
    const made: Awaited<ReturnType<typeof create>>[] = [];
    for (let n = 0; n < 40; n++) made.push(await create({ aiType: n % 2 ? 'AWS' : 'OPENAI' }));
    await change('DELETE', made[3]?.path ?? '');
    await change('POST', `${made[4]?.path}/suspend`);
    const { position } = await change('DELETE', made[6]?.path ?? '');
    // Later changes must not affect these answers.
    for (const one of made.slice(10)) await change('DELETE', one.path);
    await create();
    const ids = made.map(({ id }) => id).reverse();
    const [third, fourth, sixth] = [made[3]?.id, made[4]?.id, made[6]?.id];
    expect(idsIn(await look(keys, position, 'include=deleted'))).toEqual(ids);
    expect(idsIn(await look(keys, position))).toEqual(ids.filter((id) => id !== third && id !== sixth));
    expect(idsIn(await look(keys, position, 'status=deleted'))).toEqual([sixth, third]);
    expect(idsIn(await look(keys, position, 'status=suspended'))).toEqual([fourth]);
    expect(idsIn(await look(keys, position, 'aiType=AWS'))).toHaveLength(19);
    for (const [limit, pages] of [
      [7, 6],
      [38, 1],
      [19, 2],
    ] as const) {
      const found: unknown[] = [];
      let cursor = '';
      let count = 0;
      for (; ; count++) {
        const page = await look(keys, position, `limit=${limit}${cursor}`);
        found.push(...idsIn(page));
        if (page.json['nextCursor'] === null) break;
        expect(idsIn(page)).toHaveLength(limit);
        cursor = `&cursor=${page.json['nextCursor']}`;
      }
      expect([found, count + 1]).toEqual([ids.filter((id) => id !== third && id !== sixth), pages]);
    }
    expect((await look(keys, position)).json).not.toHaveProperty('nextCursor');
  });

  it('a key of another repository is not there', async () => {
    const { id, position } = await create();
    const elsewhere = `/repo/${randomUUID()}/ai/apikey`;
    expectError(await look(`${elsewhere}/${id}`, position), 404, 'KEY_NOT_FOUND');
    expectError(await look(`${keys}/${randomUUID()}`, position), 404, 'KEY_NOT_FOUND');
    expectError(await look(`${keys}/nonsense`, position), 404, 'KEY_NOT_FOUND');
    expect(idsIn(await look(elsewhere, position))).toEqual([]);
  });

  it('needs the rights of an auditor; the present does not', async () => {
    const { path, position } = await create();
    const elsewhere = await service.token('auditor', 'another', 'eve');
    for (const role of ['admin', 'viewer', 'verifier']) {
      const token = await service.token(role, '*');
      for (const at of [keys, path]) expectError(await look(at, position, '', token), 403, 'FORBIDDEN');
      expectError(await look(keys, 'nonsense', '', token), 403, 'FORBIDDEN');
    }
    expectError(await look(keys, position, '', elsewhere), 403, 'FORBIDDEN');
    expectError(await service.ask('GET', `${keys}?asOf=${position}`), 401, 'UNAUTHENTICATED');
    expect(await accesses()).toEqual([]);
    for (const at of [keys, path]) expect((await service.ask('GET', at, { token: admin })).status).toBe(200);
  });

  it('what is not a point in time, or lies in the future, is 400', async () => {
    const { path } = await create();
    for (const [asOf, message] of [
      ['', /a time with its zone/],
      ['yesterday', /a time with its zone/],
      ['2026-01-01', /a time with its zone/],
      ['2026-01-01T00:00:00', /a time with its zone/],
      ['2026-02-30T00:00:00Z', /a time with its zone/],
      ['2999-01-01T00:00:00Z', /in the future/],
    ] as const) {
      for (const at of [keys, path]) expectError(await look(at, asOf), 400, 'INVALID_INPUT', message);
    }
    expect(await accesses()).toEqual([]);
  });

  it('a position at which nothing is is 400, and one of another log 409', async () => {
    const { path, position } = await create();
    const [, place = ''] = position.split(':');
    const nowhere = position.replace(place, place.replace(/^0/, '7'));
    const elsewhere = `${randomUUID()}:${place}`;
    for (const at of [keys, path]) {
      expectError(await look(at, nowhere), 400, 'INVALID_INPUT', /no event/);
      expectError(await look(at, elsewhere), 409, 'OTHER_LOG');
      expectError(await look(at, position, '', auditor, { 'keyledger-min-position': elsewhere }), 409, 'OTHER_LOG');
      expectError(await look(at, position, '', auditor, { 'keyledger-min-position': nowhere }), 503, 'BEHIND');
      const there = await look(at, position, '', auditor, { 'keyledger-min-position': position });
      expect(there.status).toBe(200);
    }
    expectError(await look(keys, position, `cursor=${elsewhere}`), 409, 'OTHER_LOG');
    expectError(await look(keys, position, 'limit=0'), 400, 'INVALID_INPUT');
  });

  it('each answer is written down once, before it is given', async () => {
    const { id, path, position } = await create();
    const time = new Date().toISOString();
    await look(keys, position, 'status=active&limit=5');
    await look(path, time.replace('Z', '+00:00'));
    await look(path, minus(time, 3_600_000));
    const seen = await accesses();
    const actor = { issuer: 'keyledger', subject: 'eve' };
    expect(seen).toMatchObject([
      { actor, data: { apiKeyId: null, query: { asOf: position, status: 'active', limit: 5 } } },
      { actor, data: { apiKeyId: id, query: { asOf: time } } },
      // The audit records an answer that no such key existed, too.
      { actor, data: { apiKeyId: id, query: { asOf: minus(time, 3_600_000) } } },
    ]);
    for (const { data } of seen) {
      expect(data).toMatchObject({ access: 'as-of', repoId, from: '127.0.0.1', verified: true });
    }
  });

  it('what another instance has just done is included', async () => {
    const other = await runService({ ...settings, EVENT_STORE_URL: service.config.EVENT_STORE_URL });
    try {
      const token = await other.token('auditor', '*', 'eve');
      for (let n = 1; n <= 20; n++) {
        const { id } = await create();
        const asOf = new Date().toISOString();
        const answer = await other.ask('GET', `${keys}?asOf=${asOf}`, { token });
        expect([answer.status, keysIn(answer).length, idsIn(answer)[0]]).toEqual([200, n, id]);
      }
    } finally {
      await other.stop();
    }
  });
});

describe('an instance that lags', () => {
  it('says so, instead of leaving out a key that it has not seen', async () => {
    const folder = temporaryFolder();
    const fail = (error: Error) => {
      throw error;
    };
    const log = await openSqliteLog(join(folder.path, 'log.db'), fail);
    const logger = pino({ level: 'silent' });
    const lag = new AbortController();
    const lagging = withMethods(log, {
      async *subscribe(after, signal) {
        yield* log.subscribe(after, AbortSignal.any([signal, lag.signal]));
        if (!signal.aborted) await once(signal, 'abort');
      },
    });
    const projector = new Projector({
      log: lagging,
      folder: folder.path,
      readModel: undefined,
      logger,
      clock: Date.now,
      onLogReplaced: fail,
    });
    const lastUsedTracker = new LastUsedTracker(openSqliteLastUsedStore(join(folder.path, 'usage.db'), logger), logger);
    const caller = { issuer: 'test', subject: 'eve' };
    const keyring = new Keyring(makeMasterKey('k1'));
    const store = openSqliteDeliveryStore(join(folder.path, 'deliveries.db'), log.logId, logger);
    const sender = new WebhookSender([]);
    const calling = { store, sender, retryMs: 0, onAttempt: () => undefined };
    const webhookDispatcher = new WebhookDispatcher({ log, projector, keyring, clock: Date.now, ...calling }, logger);
    const app = await createApp({
      log,
      projector,
      webhookDispatcher,
      queries: new Queries(
        projector,
        localLists(() => projector.store),
        Date.now,
        0,
      ),
      lastUsedTracker,
      readMarks: openSqliteReadMarks(join(folder.path, 'read-marks.db'), logger),
      keyring,
      clock: Date.now,
      verifyToken: () => ({ ...caller, grants: { shop: 'auditor' }, expiresAt: Number.POSITIVE_INFINITY }),
      onAppend: () => undefined,
      metrics: createMetrics(),
      logger,
      settings: {
        requestTimeoutMs: 30_000,
        rateLimit: 0,
        corsOrigins: [],
        trustProxy: false,
        serveMetrics: false,
        verifyForward: false,
        webhookNetworks: [],
      },
    });
    const make = (name: string) => {
      const context = {
        log,
        keyring,
        clock: Date.now,
        actor: caller,
        requestId: 'x',
        from: 'x',
        verified: true,
      };
      return createAiApiKey(context, { repoId: 'shop', name, aiType: 'OPENAI', expiresAt: null });
    };
    const list = (asOf: string) =>
      app.inject({ url: `/repo/shop/ai/apikey?asOf=${asOf}`, headers: { authorization: 'Bearer x' } });
    try {
      expect((await list(new Date().toISOString())).json()).toMatchObject({ code: 'STARTING' });
      projector.start();
      const seen = await make('seen');
      await eventually(() => projector.indexProgress.hasReached(seen.position));
      lag.abort();
      await make('unseen');
      expect((await list(new Date().toISOString())).json()).toMatchObject({ code: 'BEHIND' });
      expect((await list(seen.position)).json()).toMatchObject({ apiKeys: [{ id: seen.id }] });
      expect((await accessesIn(log)).map(({ data }) => data.query)).toEqual([{ asOf: seen.position }]);
    } finally {
      await projector.stop();
      await app.close();
      await projector.stop();
      await lastUsedTracker.stop();
      await log.close();
      folder.remove();
    }
  });
});
