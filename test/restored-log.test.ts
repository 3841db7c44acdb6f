import { randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { resolveResumeToken, resumeTokenOf } from '../src/event-store/resume-token.js';
import { createVerifier } from '../src/sdk/verifier/index.js';
import { eventually } from './support/assertions/eventually.js';
import { eventsIn, withLogAt } from './support/fixtures/log-copies.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { eventsOf, readStream } from './support/http/event-stream.js';
import { type Child, spawnService } from './support/servers/child-service.js';

type Key = { readonly id: string; readonly key: string; readonly secret: string };
const keys = '/repo/shop/ai/apikey';

function copyLog(from: string, to: string): void {
  for (const file of readdirSync(to)) if (file.startsWith('keyledger.db')) rmSync(join(to, file));
  for (const file of readdirSync(from)) {
    if (file.startsWith('keyledger.db')) cpSync(join(from, file), join(to, file));
  }
}

/**
 * Given a log with two keys, copied before a third one; an operator restores the copy, and it continues differently.
 */
describe('subscribers of a log that was restored from an older copy and has outgrown them', () => {
  const folder = temporaryFolder();
  const [data, copy] = [join(folder.path, 'data'), join(folder.path, 'copy')];
  let service: Child;
  let port = '0';
  const serve = async (at = port) => {
    service = await spawnService(data, { PORT: at, RATE_LIMIT: '0' });
    if (at !== '0') port = new URL(service.url).port;
  };
  const create = async (name: string): Promise<Key> => {
    const body = { name, aiType: 'OPENAI' };
    return (await service.ask('POST', keys, { token: await service.token('admin'), body })).json as Key;
  };
  let made: { kept: Key; deleted: Key; lost: Key };

  beforeEach(async () => {
    for (const path of [data, copy]) {
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path);
    }
    await serve('0');
    port = new URL(service.url).port;
    const [kept, deleted] = [await create('kept'), await create('deleted')];
    await service.end('SIGTERM');
    copyLog(data, copy);
    await serve();
    made = { kept, deleted, lost: await create('lost') };
  });
  afterEach(async () => {
    await service.end('SIGKILL');
  });
  /** Restores on another port, so that no client reaches the service before its log has continued. */
  const restore = async () => {
    await service.end('SIGTERM');
    copyLog(copy, data);
    await serve('0');
    const token = await service.token('admin');
    await service.ask('DELETE', `${keys}/${made.deleted.id}`, { token });
    for (const name of ['new', 'newer']) await create(name);
    await service.end('SIGTERM');
    await serve();
  };

  it('are refused by the feed, wherever they were: at an event that is lost, or past one that was not for them', async () => {
    const token = await service.token('admin');
    const reading = await readStream(`${service.url}/events?after=start`, token);
    const other = await readStream(`${service.url}/events?after=start&type=ApiKeyDeleted`, token);
    await eventually(() =>
      [reading, other].every(({ messages }) => messages.some(({ event }) => event === 'caught-up')),
    );
    const [kept] = eventsOf(reading.messages);
    const gone = [reading, other].map(({ messages }) => messages.at(-1)?.id);
    for (const { close } of [reading, other]) close();
    await restore();
    const accepts = (after: unknown) =>
      service.ask('GET', `/events?after=${after}`, { token, headers: { accept: 'application/json' } });
    for (const id of gone) {
      expect((await accepts(id)).json).toMatchObject({ code: 'OTHER_LOG' });
      const live = readStream(`${service.url}/events`, token, { 'last-event-id': id as string });
      await expect(live).rejects.toThrow(/409.*OTHER_LOG/);
    }
    const { json } = await accepts(kept?.['position']);
    expect((json['events'] as { type: string }[]).map(({ type }) => type)).toEqual([
      'ApiKeyCreated',
      'ApiKeyDeleted',
      'ApiKeyCreated',
      'ApiKeyCreated',
    ]);
    expect((await accepts(json['next'])).json).toMatchObject({ events: [] });
  }, 60_000);

  it('that verify in other processes know what it holds now, and nothing of what it held', async () => {
    const verifier = createVerifier({ baseUrl: service.url, token: await service.token('replica') });
    const says = ({ key, secret }: Key) => {
      const result = verifier.verify(key, secret);
      return result.valid || result.reason;
    };
    await verifier.ready();
    expect([says(made.kept), says(made.deleted), says(made.lost)]).toEqual([true, true, true]);
    await restore();
    await eventually(() => says(made.deleted) === 'DELETED');
    expect([says(made.kept), says(made.lost)]).toEqual([true, 'UNKNOWN']);
    verifier.close();
  }, 60_000);
});

describe('a resume token', () => {
  const folder = temporaryFolder();
  const withLog = <T>(use: (...given: Parameters<Parameters<typeof withLogAt<T>>[1]>) => Promise<T>) =>
    withLogAt(`sqlite:${join(folder.path, `${randomUUID()}.db`)}`, use);
  const event = () => ({ id: randomUUID(), type: 'Tested', data: {}, metadata: {} });

  it('is found where its event is, and nowhere else', async () => {
    await withLog(async (log) => {
      await log.append(`aiApiKey-${randomUUID()}`, [event(), event()], 'no-stream');
      const [one, two] = (await eventsIn(log)) as [RecordedEvent, RecordedEvent];
      const end = await log.end();
      for (const each of [one, two]) {
        expect(await resolveResumeToken(log, end, resumeTokenOf(each))).toBe(each.position);
        expect(await resolveResumeToken(log, end, each.position)).toBe(each.position);
      }
      const swapped = resumeTokenOf({ position: one.position, id: two.id });
      const nowhere = resumeTokenOf({ ...one, position: (await log.end()).replace(/.$/, '0') as typeof end });
      for (const other of [swapped, nowhere]) {
        await expect(resolveResumeToken(log, end, other)).rejects.toMatchObject({ code: 'OTHER_LOG' });
      }
      await expect(resolveResumeToken(log, end, `${one.position}.`)).rejects.toMatchObject({
        code: 'INVALID_INPUT',
      });
    });
  });

  it('of another log is refused', async () => {
    const elsewhere = await withLog(async (log) => {
      await log.append(`aiApiKey-${randomUUID()}`, [event()], 'no-stream');
      return resumeTokenOf((await eventsIn(log))[0] as RecordedEvent);
    });
    await withLog(async (log) => {
      await expect(resolveResumeToken(log, await log.end(), elsewhere)).rejects.toMatchObject({
        code: 'OTHER_LOG',
      });
    });
  });
});
