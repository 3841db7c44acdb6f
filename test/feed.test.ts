import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { API_KEY_EVENTS, apiKeyStream } from '../src/domain/ai-api-key.js';
import { openEventStore } from '../src/event-store/open.js';
import { eventually } from './support/assertions/eventually.js';
import { askForPage, eventsOf, type Message, type Reading, readStream } from './support/http/event-stream.js';
import { combinations } from './support/servers/combinations.js';
import { type Json, type Running, runService, tokenFor } from './support/servers/service.js';

const failed = (error: Error) => {
  throw error;
};
const UUID = /^[0-9a-f-]{36}$/;
const TIME = /^20\d\d-.*Z$/;

describe.each(combinations)('the feed on $name', ({ start }) => {
  let service: Running;
  let stopParts: () => Promise<void>;
  beforeAll(async () => {
    const parts = await start();
    stopParts = parts.stop;
    service = await runService({ RATE_LIMIT: '0', ...parts.settings });
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });
  const readings: Reading[] = [];
  afterEach(() => {
    for (const reading of readings.splice(0)) reading.close();
  });

  /** A repository of a test's own, and what an admin of it does there. */
  async function repository(repoId: string = randomUUID()) {
    const token = await service.token('admin', repoId);
    const keys = `/repo/${repoId}/ai/apikey`;
    const ask = (method: string, path: string, body?: object) =>
      service.ask(method, path, { token, ...(body ? { body } : {}) });
    const create = async (name = 'search') => {
      const { json } = await ask('POST', keys, { name, aiType: 'AWS' });
      return json as { id: string; key: string; secret: string };
    };
    const one = (id: string) => `${keys}/${id}`;
    return { repoId, token, ask, create, one };
  }
  const read = async (query: string, token: string, headers: Record<string, string> = {}) => {
    const reading = await readStream(`${service.url}/events${query}`, token, headers);
    readings.push(reading);
    return reading;
  };
  /** Everything that there is, up to the caught-up mark. */
  const readAll = async (query: string, token: string, headers: Record<string, string> = {}) => {
    const reading = await read(query, token, headers);
    await eventually(() => reading.messages.some(({ event }) => event === 'caught-up'));
    reading.close();
    return withoutHeartbeats(reading);
  };
  const withoutHeartbeats = ({ messages }: Reading) => messages.filter(({ event }) => event !== 'heartbeat');
  const page = (query: string, token: string) => askForPage(`${service.url}/events${query}`, token);
  const types = (messages: readonly Message[]) => eventsOf(messages).map(({ type }) => type);
  const namesOf = (events: readonly Json[]) => events.map(({ data }) => (data as Json)['name']);
  const positions = (events: readonly Json[]) => events.map(({ position }) => position as string);
  const withLog = async <T>(work: (log: Awaited<ReturnType<typeof openEventStore>>) => Promise<T>) => {
    const log = await openEventStore(service.config.EVENT_STORE_URL, {
      onFatal: failed,
      warn: () => undefined,
    });
    try {
      return await work(log);
    } finally {
      await log.close();
    }
  };
  const end = () => withLog((log) => log.end());

  it('leaves out AuditAccessed unless its reader names it: a reader of the audit must not feed itself', async () => {
    const { token, ask, create, one } = await repository();
    const { id } = await create();
    await ask('GET', `${one(id)}/history`);
    await ask('PUT', one(id), { name: 'find' });
    expect(types(await readAll('?after=start', token))).toEqual(['ApiKeyCreated', 'ApiKeyRenamed']);
    expect(types(await readAll('?after=start&type=AuditAccessed', token))).toEqual(['AuditAccessed']);
  });

  it('tells every type of event as a CloudEvent, in order, and nothing secret', async () => {
    const { repoId, token, ask, create, one } = await repository();
    const { id, key, secret } = await create();
    await ask('PUT', one(id), { name: 'find' });
    await ask('PUT', one(id), { expiresAt: '2099-01-01T00:00:00.000Z' });
    const rotated = await ask('POST', `${one(id)}/rotate`, { overlapSeconds: 60 });
    await ask('POST', `${one(id)}/suspend`, { reason: 'odd' });
    await ask('POST', `${one(id)}/resume`);
    await ask('DELETE', one(id));
    await ask('GET', `${one(id)}/history`);
    const types = `${API_KEY_EVENTS.join()},AuditAccessed`;
    const messages = await readAll(`?after=start&type=${types}`, token);

    const caused = {
      apiKeyId: id,
      actor: { issuer: 'keyledger', subject: 'ada' },
      requestId: expect.stringMatching(UUID),
    };
    const told = [
      ['ApiKeyCreated', { name: 'search', aiType: 'AWS', key, expiresAt: null }],
      ['ApiKeyRenamed', { name: 'find' }],
      ['ApiKeyExpiryChanged', { expiresAt: '2099-01-01T00:00:00.000Z' }],
      ['ApiKeySecretRotated', { secretVersion: 2, overlapEndsAt: expect.stringMatching(TIME) }],
      ['ApiKeySuspended', { reason: 'odd' }],
      ['ApiKeyResumed', {}],
      ['ApiKeyDeleted', { reason: 'requested' }],
      ['AuditAccessed', { access: 'history', query: {}, from: '127.0.0.1', verified: true }],
    ] as const;
    const logId = (await end()).slice(0, 36);
    expect(eventsOf(messages)).toEqual(
      told.map(([type, said], revision) => ({
        specversion: '1.0',
        id: expect.stringMatching(UUID),
        source: `urn:uuid:${logId}`,
        type,
        subject: id,
        time: expect.stringMatching(TIME),
        datacontenttype: 'application/json',
        position: expect.stringMatching(new RegExp(`^${logId}:`)),
        data: { repoId, revision: type === 'AuditAccessed' ? 0 : revision, ...caused, ...said },
      })),
    );
    const ids = messages.map((message) => message.id as string);
    expect(ids).toEqual([...ids].sort());
    expect(ids.slice(0, -1)).toEqual(positions(eventsOf(messages)));
    expect(messages.map(({ event }) => event)).toEqual([...told.map(() => 'message'), 'caught-up']);

    const text = JSON.stringify(messages);
    const forms = [secret, rotated.json['secret'] as string];
    await withLog(async (log) => {
      for await (const { data } of log.readStream(apiKeyStream(id))) {
        const { secretHash, sealedSecret } = data as { secretHash?: string; sealedSecret?: string };
        if (secretHash && sealedSecret) forms.push(secretHash, sealedSecret);
      }
    });
    expect(forms).toHaveLength(6);
    for (const form of forms) expect(text).not.toContain(form);
  });

  it('begins now where nothing is said, and goes on with what happens', async () => {
    const { token, create } = await repository();
    await create('before');
    const live = await read('', token);
    await eventually(() => withoutHeartbeats(live).length === 1);
    expect(withoutHeartbeats(live)).toMatchObject([{ event: 'caught-up' }]);
    await create('one');
    await create('two');
    await eventually(() => withoutHeartbeats(live).length === 3);
    expect(namesOf(eventsOf(live.messages))).toEqual(['one', 'two']);
  });

  it('goes on exactly behind a position; Last-Event-ID goes before the query', async () => {
    const { token, create } = await repository();
    for (const name of ['a', 'b', 'c', 'd']) await create(name);
    const all = eventsOf(await readAll('?after=start', token));
    expect(namesOf(all)).toEqual(['a', 'b', 'c', 'd']);
    for (const [i, position] of positions(all).entries()) {
      const rest = all.slice(i + 1);
      expect(eventsOf(await readAll(`?after=${position}`, token))).toEqual(rest);
      const header = { 'last-event-id': position };
      expect(eventsOf(await readAll('', token, header))).toEqual(rest);
      expect(eventsOf(await readAll('?after=start', token, header))).toEqual(rest);
    }
  });

  it('goes on behind a mark as behind an event', async () => {
    const { token, create } = await repository();
    await create('before');
    const mark = (await readAll('', token)).at(-1)?.id;
    await create('after');
    expect(namesOf(eventsOf(await readAll(`?after=${mark}`, token)))).toEqual(['after']);
  });

  it('tells of one repository, or of some types, to who asks for that', async () => {
    const [mine, other] = [await repository(), await repository()];
    const made = await mine.create('mine');
    await other.create('other');
    await mine.ask('PUT', mine.one(made.id), { name: 'renamed' });
    await mine.ask('DELETE', mine.one(made.id));
    const grants = { [mine.repoId]: 'admin', [other.repoId]: 'auditor' };
    const both = await tokenFor(service.config, grants, 'ada');
    const told = async (query: string) => types(await readAll(`?after=start${query}`, both));
    const all = ['ApiKeyCreated', 'ApiKeyCreated', 'ApiKeyRenamed', 'ApiKeyDeleted'];
    expect(await told('')).toEqual(all);
    expect(await told(`&repo=${mine.repoId}`)).toEqual(all.slice(1));
    expect(await told(`&repo=${other.repoId}`)).toEqual(all.slice(1, 2));
    expect(await told('&type=ApiKeyRenamed,ApiKeyDeleted')).toEqual(all.slice(2));
    expect(await told(`&type=ApiKeyDeleted&repo=${other.repoId}`)).toEqual([]);
  });

  it('hides what is in repositories that the caller may not follow: a grant for one goes before `*`', async () => {
    const [mine, other] = [await repository(), await repository()];
    const from = await end();
    await other.create('other');
    await mine.create('mine');
    const names = async (grants: object) => {
      const token = await tokenFor(service.config, grants, 'ada');
      const told = eventsOf(await readAll(`?after=${from}`, token));
      return namesOf(told).filter((name) => name === 'mine' || name === 'other');
    };
    expect(await names({ [mine.repoId]: 'admin' })).toEqual(['mine']);
    expect(await names({ '*': 'auditor', [other.repoId]: 'viewer' })).toEqual(['mine']);
    expect(await names({ '*': 'viewer', [other.repoId]: 'auditor' })).toEqual(['other']);
    expect(await names({ '*': 'admin' })).toEqual(['other', 'mine']);
  });

  it('has in its pages what the stream has', async () => {
    const { token, create } = await repository();
    for (const name of ['a', 'b', 'c', 'd', 'e']) await create(name);
    const all = eventsOf(await readAll('?after=start', token));
    const paged: Json[] = [];
    const sizes: number[] = [];
    let next = 'start';
    do {
      const { status, json } = await page(`?after=${next}&limit=2`, token);
      expect([status, json['success']]).toEqual([200, true]);
      const events = json['events'] as Json[];
      paged.push(...events);
      sizes.push(events.length);
      next = json['next'] as string;
    } while (sizes.at(-1) === 2);
    expect(paged).toEqual(all);
    expect(sizes).toEqual([2, 2, 1]);

    const none = await page(`?after=${next}`, token);
    expect(none.json).toMatchObject({ events: [] });
    await create('later');
    for (const position of [next, none.json['next']]) {
      expect(namesOf((await page(`?after=${position}`, token)).json['events'] as Json[])).toEqual(['later']);
    }
    const now = await page('', token);
    expect(now.json).toEqual({ success: true, events: [], next: expect.any(String) });
    await create('last');
    const last = await page(`?after=${now.json['next']}`, token);
    expect(namesOf(last.json['events'] as Json[])).toEqual(['last']);
  });

  it('tells of an event that this release cannot read that it happened, and why nobody knows what', async () => {
    const { repoId, token, ask, create, one } = await repository();
    const { id } = await create();
    await withLog(async (log) => {
      const strange = {
        id: randomUUID(),
        type: 'ApiKeyLent',
        data: { apiKeyId: id, to: 'bob' },
        metadata: {},
      };
      await log.append(apiKeyStream(id), [strange], 0);
    });
    await ask('DELETE', one(id));
    const [created, lent, deleted] = eventsOf(await readAll('?after=start', token));
    expect(created).toMatchObject({ type: 'ApiKeyCreated' });
    expect(lent).toMatchObject({ type: 'ApiKeyLent', subject: id, time: expect.stringMatching(TIME) });
    const unreadable = 'unknown event type ApiKeyLent';
    expect(lent?.['data']).toEqual({ repoId, revision: 1, apiKeyId: id, unreadable });
    expect(deleted).toMatchObject({ type: 'ApiKeyDeleted', data: { reason: 'requested' } });
  });
});
