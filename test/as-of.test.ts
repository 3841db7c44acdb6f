import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { v4 as uuid } from 'uuid';
import { apiKeyAsOfView, keyAsOf, repositoryAsOf } from '../src/audit/as-of.js';
import { couldUse } from '../src/audit/could-use.js';
import { parsePointInTime } from '../src/audit/point-in-time.js';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import { recordAuditAccess } from '../src/commands/record-audit-access.js';
import { type ApiKeyEvent, apiKeyStream } from '../src/domain/ai-api-key.js';
import { encode } from '../src/event-store/codec.js';
import type { EventStore, NewEvent, RecordedEvent } from '../src/event-store/event-store.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { makeAccessKey } from '../src/security/credentials.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import {
  deleteAiApiKey,
  resumeAiApiKey,
  suspendAiApiKey,
  updateAiApiKey,
} from './support/fixtures/api-key-commands.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

const keyring = new Keyring(makeMasterKey('k1'));
const repoId = 'shop';
const T0 = Date.parse('2026-01-01T00:00:00.000Z');
const at = (second: number) => ({ time: T0 + second * 1000 });
const text = (second: number) => new Date(at(second).time).toISOString();
const actor = { issuer: 'test', subject: 'ada' };
const cause = { actor, requestId: 'request', commandId: 'command' };

let folder: ReturnType<typeof temporaryFolder>;
let log: EventStore;
beforeEach(async () => {
  folder = temporaryFolder();
  log = await openSqliteLog(join(folder.path, 'log.db'), (error) => {
    throw error;
  });
});
afterEach(async () => {
  await log.close();
  folder.remove();
});

const context = (second: number) => ({
  log,
  keyring,
  clock: () => at(second).time,
  actor,
  requestId: 'request',
  from: '127.0.0.1',
  verified: true,
});
const create = (second: number, expires: number | null = null) =>
  createAiApiKey(context(second), {
    repoId,
    name: 'search',
    aiType: 'OPENAI',
    expiresAt: expires === null ? null : text(expires),
  });
const stream = async (apiKeyId: string) => {
  const events: RecordedEvent[] = [];
  for await (const event of log.readStream(apiKeyStream(apiKeyId))) events.push(event);
  return events;
};
/** Appends an event that no command would produce. */
async function appendRaw(apiKeyId: string, event: Partial<NewEvent>): Promise<RecordedEvent> {
  const { length } = await stream(apiKeyId);
  const whole = { id: uuid(), type: 'ApiKeyFrozen', data: { apiKeyId, repoId }, metadata: {}, ...event };
  await log.append(apiKeyStream(apiKeyId), [whole], length === 0 ? 'no-stream' : length - 1);
  return (await stream(apiKeyId)).at(-1) as RecordedEvent;
}
const appendOurs = (apiKeyId: string, event: ApiKeyEvent, second: number) =>
  appendRaw(apiKeyId, encode(event, uuid(), text(second), cause));
describe('a point in time', () => {
  it('at a position has the time of the event there', async () => {
    const { id, position } = await create(5);
    expect(await parsePointInTime(position, log, Date.now())).toEqual({ ...at(5), position });
    await recordAuditAccess(context(7), { access: 'as-of', repoId, apiKeyId: null, query: {} });
    const access = await log.end();
    expect(await parsePointInTime(access, log, Date.now())).toEqual({ ...at(7), position: access });
    const { recordedAt, position: unreadable } = await appendRaw(id, {});
    const pointInTime = await parsePointInTime(unreadable, log, Date.now());
    expect(pointInTime).toEqual({ time: Date.parse(recordedAt), position: unreadable });
  });

  it('may be the beginning of the log, where nothing is', async () => {
    const beginning = await log.end();
    const beyond = beginning.replace(/.$/, 'f');
    for (const fill of [async () => undefined, () => create(1)]) {
      await fill();
      expect(await repositoryAsOf(log, repoId, await parsePointInTime(beginning, log, Date.now()))).toEqual([]);
      await expect(parsePointInTime(beyond, log, Date.now())).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
    }
  });

  it('must not be later than now, to the millisecond', async () => {
    expect(await parsePointInTime(text(3), log, at(3).time)).toEqual({ ...at(3), askedAt: at(3).time });
    await expect(parsePointInTime(text(3), log, at(3).time - 1)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });
});

describe('a key with an event that cannot be read', () => {
  it('is unavailable from that event on, which is cited, until it is deleted', async () => {
    const { id, position } = await create(1);
    const unreadable = await appendRaw(id, {});
    const renamed = await appendOurs(id, { type: 'ApiKeyRenamed', data: { apiKeyId: id, repoId, name: 'x' } }, 2);
    const deleted = await deleteAiApiKey(context(3), { repoId, apiKeyId: id });
    const asOf = async (place: string) => keyAsOf(log, id, await parsePointInTime(place, log, Date.now()));
    expect(await asOf(position)).toMatchObject({ status: 'active', position });
    for (const place of [unreadable.position, renamed.position]) {
      expect(await asOf(place)).toMatchObject({
        status: 'unavailable',
        name: 'search',
        position: unreadable.position,
        eventId: unreadable.id,
      });
    }
    expect(await asOf(deleted.position)).toMatchObject({ status: 'deleted', position: deleted.position });
  });

  it('is so from when that was recorded', async () => {
    const { id, key } = await create(1);
    const { recordedAt, position, type } = await appendRaw(id, { metadata: { occurredAt: text(2) } });
    const time = Date.parse(recordedAt);
    expect(await keyAsOf(log, id, { time: time - 1 })).toMatchObject({ status: 'active' });
    expect(await keyAsOf(log, id, { time })).toMatchObject({ status: 'unavailable' });
    expect(await couldUse(log, key, { time: time - 1 })).toMatchObject({ couldUse: true });
    expect(await couldUse(log, key, { time })).toMatchObject({
      couldUse: false,
      status: 'unavailable',
      event: { type, position, at: recordedAt, actor: null },
    });
  });

  it('is so from when the event after it occurred, if that was before', async () => {
    const { id, key } = await create(1);
    const unreadable = await appendRaw(id, {});
    const event: ApiKeyEvent = { type: 'ApiKeyResumed', data: { apiKeyId: id, repoId } };
    await appendOurs(id, event, 10);
    expect(await keyAsOf(log, id, at(9))).toMatchObject({ status: 'active' });
    expect(await keyAsOf(log, id, at(10))).toMatchObject({ status: 'unavailable' });
    expect((await couldUse(log, key, at(10))).event?.position).toBe(unreadable.position);
  });

  it('is in the list of the repository that its first event names, readable or not', async () => {
    const [named, nameless] = [uuid(), uuid()];
    const accessKey = makeAccessKey();
    const { recordedAt } = await appendRaw(named, { data: { repoId, accessKey } });
    await appendRaw(nameless, { data: null as unknown as object });
    const pointInTime = { time: Date.parse(recordedAt) + 60_000 };
    const [only, ...others] = await repositoryAsOf(log, repoId, pointInTime);
    expect([only?.apiKeyId, only?.status, others]).toEqual([named, 'unavailable', []]);
    expect(await couldUse(log, accessKey, pointInTime)).toMatchObject({
      status: 'unavailable',
      apiKeyId: named,
    });
  });

  it('is in no list of another repository that a later event names', async () => {
    const { id } = await create(1);
    await appendOurs(id, { type: 'ApiKeyResumed', data: { apiKeyId: id, repoId: 'other' } }, 2);
    const pointInTime = await parsePointInTime(await log.end(), log, 0);
    expect(await repositoryAsOf(log, 'other', pointInTime)).toEqual([]);
    const [only] = await repositoryAsOf(log, repoId, pointInTime);
    expect(only).toMatchObject({ apiKeyId: id, status: 'unavailable' });
  });
});

it('the view of a key contains no secret material', async () => {
  const { id, key, secret } = await create(1);
  const found = await keyAsOf(log, id, at(2));
  if (!found) throw new Error('There is a key');
  const output = JSON.stringify([apiKeyAsOfView(found, at(2)), found, await couldUse(log, key, at(2))]);
  expect(output).toContain(key);
  const [{ data } = { data: {} }] = await stream(id);
  const { secretHash, sealedSecret } = data as Record<string, string>;
  for (const text of [secret, secretHash ?? '', sealedSecret ?? '']) {
    expect([text.length > 40, output.includes(text)]).toEqual([true, false]);
  }
});

describe('whether a key could be used', () => {
  const change = (apiKeyId: string, second: number, expires: number | null) =>
    updateAiApiKey(context(second), { repoId, apiKeyId, expiresAt: expires === null ? null : text(expires) });
  const suspend = (apiKeyId: string, second: number) =>
    suspendAiApiKey(context(second), { repoId, apiKeyId, reason: null });
  const resume = (apiKeyId: string, second: number) => resumeAiApiKey(context(second), { repoId, apiKeyId });

  it('is no, without an event, where no key ever had the access key', async () => {
    await create(1);
    expect(await couldUse(log, makeAccessKey(), at(2))).toEqual({
      couldUse: false,
      status: 'unknown',
      apiKeyId: null,
      repoId: null,
      expiresAt: null,
      event: null,
    });
  });

  it('is no before its creation, which decides it', async () => {
    const { id, key, position } = await create(5);
    const decided = {
      type: 'ApiKeyCreated',
      position,
      at: text(5),
      actor,
      eventId: (await stream(id))[0]?.id,
    };
    const known = { apiKeyId: id, repoId, expiresAt: null, event: decided };
    expect(await couldUse(log, key, at(4))).toEqual({ couldUse: false, status: 'not created', ...known });
    expect(await couldUse(log, key, at(5))).toEqual({ couldUse: true, status: 'active', ...known });
  });

  it.each<[string, (id: string) => Promise<unknown>, number, string, string, number]>([
    [
      'a rename',
      (id) => updateAiApiKey(context(2), { repoId, apiKeyId: id, name: 'x' }),
      9,
      'active',
      'ApiKeyCreated',
      1,
    ],
    ['a suspension', (id) => suspend(id, 2), 2, 'suspended', 'ApiKeySuspended', 2],
    ['a suspension to come', (id) => suspend(id, 4), 3, 'active', 'ApiKeyCreated', 1],
    ['a resumption', async (id) => [await suspend(id, 2), await resume(id, 3)], 3, 'active', 'ApiKeyResumed', 3],
    [
      'a deletion',
      async (id) => [await suspend(id, 2), await deleteAiApiKey(context(3), { repoId, apiKeyId: id })],
      3,
      'deleted',
      'ApiKeyDeleted',
      3,
    ],
    ['the first expiry', async () => undefined, 20, 'expired', 'ApiKeyCreated', 1],
    ['the first expiry to come', async () => undefined, 19, 'active', 'ApiKeyCreated', 1],
    [
      'an expiry that was prolonged in time, asked before the first',
      (id) => change(id, 5, 40),
      19,
      'active',
      'ApiKeyCreated',
      1,
    ],
    ['an expiry that was prolonged in time', (id) => change(id, 5, 40), 20, 'active', 'ApiKeyExpiryChanged', 5],
    ['an expiry that was prolonged', (id) => change(id, 5, 40), 40, 'expired', 'ApiKeyExpiryChanged', 5],
    ['an expiry that was shortened', (id) => change(id, 5, 10), 10, 'expired', 'ApiKeyExpiryChanged', 5],
    ['a key that was revived', (id) => change(id, 30, null), 31, 'active', 'ApiKeyExpiryChanged', 30],
    ['a key that was not revived yet', (id) => change(id, 30, null), 29, 'expired', 'ApiKeyCreated', 1],
    [
      'a resumption after an expiry',
      async (id) => [await suspend(id, 2), await resume(id, 25)],
      26,
      'expired',
      'ApiKeyCreated',
      1,
    ],
    ['a suspension, and then an expiry', (id) => suspend(id, 2), 25, 'suspended', 'ApiKeySuspended', 2],
  ])('with %s', async (_, live, second, status, type, decidedAt) => {
    const { id, key } = await create(1, 20);
    await live(id);
    const { couldUse: could, ...found } = await couldUse(log, key, at(second));
    expect(could).toBe(status === 'active');
    expect(found).toMatchObject({ status, event: { type, at: text(decidedAt), actor } });
    const decisive = (await stream(id)).find(({ position }) => position === found.event?.position);
    expect([decisive?.type, decisive?.id]).toEqual([type, found.event?.eventId]);
  });
});
