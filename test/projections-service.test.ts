import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { rebuildProjections } from '../src/maintenance/rebuild-projections.js';
import { takenPath } from '../src/projections/local/live-file.js';
import { eventually } from './support/assertions/eventually.js';
import { recordedEvents } from './support/fixtures/random-log.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnListening } from './support/servers/child-service.js';

/** More than a service folds by itself when it has no projections. */
const MANY = 6000;
const PATH = '/repo/shop/ai/apikey';

let folder: ReturnType<typeof temporaryFolder>;
let path: string;
const services: Child[] = [];
beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, 'projections.db');
});
afterEach(async () => {
  for (const service of services.splice(0)) await service.end('SIGKILL');
  folder.remove();
});

const start = async (settings: NodeJS.ProcessEnv = {}) => {
  const service = await spawnListening(folder.path, { RATE_LIMIT: '0', LOG_LEVEL: 'info', ...settings });
  services.push(service);
  return service;
};
const ready = (service: Child) => eventually(async () => (await service.ask('GET', '/health/ready')).status === 200);
const create = async (service: Child) => {
  const token = await service.token('admin');
  const { json } = await service.ask('POST', PATH, { token, body: { name: 'search', aiType: 'OPENAI' } });
  return json as { id: string; key: string; secret: string };
};
const verify = async (service: Child, { key, secret }: { key: string; secret: string }) =>
  service.ask('POST', '/verify', { token: await service.token('verifier'), body: { key, secret } });

const fail = (error: Error) => {
  throw error;
};
async function fillLog(events: readonly RecordedEvent[]): Promise<void> {
  const log = await openSqliteLog(join(folder.path, 'keyledger.db'), fail);
  await log.bulkAppend(
    (async function* () {
      for (const { stream, revision, id, type, data, metadata } of events) {
        const event = { id, type, data: data as object, metadata: metadata as object };
        yield { stream, events: [event], expectedRevision: revision === 0 ? ('no-stream' as const) : revision - 1 };
      }
    })(),
  );
  await log.close();
}
const creations = (count: number) =>
  recordedEvents(Array.from({ length: count }, (_, key) => ({ change: 'create' as const, key, repo: key % 5 })));

describe('a service without projections over a long log', () => {
  it('builds them in a process of its own, tells how far it is, and uses them from then on', async () => {
    await fillLog(creations(MANY));
    const service = await start();
    await ready(service);
    expect(service.output()).toMatch(new RegExp(`"events":${MANY},.*"The projections are built"`));
    const token = await service.token('admin');
    const { json } = await service.ask('GET', '/repo/repo-1/ai/apikey', { token });
    expect(json['apiKeys']).toHaveLength(MANY / 5);

    await service.end('SIGTERM');
    expect(existsSync(path)).toBe(true);
    const again = await start();
    await ready(again);
    expect(again.output()).not.toContain('Building the projections');
  });

  it('verifies nothing until they are whole, and says that it is starting', async () => {
    await fillLog(creations(MANY));
    const service = await start();
    const { status, json } = await verify(service, { key: 'FB_AI_x', secret: 'secret_x' });
    if (status !== 200) expect([status, json['code']]).toEqual([503, 'STARTING']);
    await ready(service);
    expect((await verify(service, { key: 'FB_AI_x', secret: 'secret_x' })).status).toBe(200);
  });

  it('that is killed while it builds them begins again, and leaves nothing behind', async () => {
    await fillLog(creations(MANY));
    const service = await start();
    await eventually(() => existsSync(`${path}.new`));
    await service.end('SIGKILL');
    await ready(await start());
    expect(readdirSync(folder.path).filter((name) => name.startsWith('projections'))).toEqual(
      expect.not.arrayContaining(['projections.db.new', 'projections.db.old']),
    );
  });
});

describe('a service that is killed', () => {
  it('goes on with its projections, and has lost nothing of what it answered', async () => {
    let service = await start();
    await ready(service);
    const keys = [];
    for (let n = 0; n < 3; n++) {
      for (let i = 0; i < 20; i++) keys.push(await create(service));
      await service.end('SIGKILL');
      service = await start();
      await ready(service);
      expect(service.output()).not.toContain('Building');
      for (const key of keys) expect((await verify(service, key)).json).toMatchObject({ valid: true });
    }
  }, 60_000);
});

it('whose projections were removed without their WAL builds them once', async () => {
  let service = await start();
  await ready(service);
  const { mtimeMs } = statSync(path);
  await create(service);
  // The WAL knows of a checkpoint, which the new file will not hold.
  await eventually(() => statSync(path).mtimeMs > mtimeMs);
  const key = await create(service);
  await service.end('SIGKILL');
  rmSync(path);
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
  service = await start();
  await ready(service);
  expect((await verify(service, key)).json).toMatchObject({ valid: true });
  expect(service.output()).not.toContain('anew');
});

it('that was killed while it took over rebuilt projections goes on with the old ones', async () => {
  let service = await start();
  await ready(service);
  const key = await create(service);
  await service.end('SIGKILL');
  // What it leaves then: a file that holds half a transaction.
  writeFileSync(takenPath(path), readFileSync(path).subarray(0, 50_000));
  service = await start();
  await ready(service);
  expect((await verify(service, key)).json).toMatchObject({ valid: true });
  expect(existsSync(takenPath(path))).toBe(false);
  expect(service.output()).not.toContain('anew');
});

it('a rebuild replaces the projections of a process that was killed while it took over others', async () => {
  const service = await start();
  await ready(service);
  await service.end('SIGKILL');
  writeFileSync(takenPath(path), 'half a file');
  const { ino } = statSync(path);
  const log = await openSqliteLog(join(folder.path, 'keyledger.db'), fail);
  expect(await rebuildProjections(log, folder.path, () => undefined)).toEqual([{ path, isInUse: false }]);
  await log.close();
  expect(statSync(path).ino).not.toBe(ino);
  await ready(await start());
  expect(existsSync(takenPath(path))).toBe(false);
});

describe('a service whose projections are damaged while it runs', () => {
  it.each([
    ['overwritten', () => writeFileSync(path, Buffer.alloc(100_000))],
    ['removed', () => rmSync(path)],
    [
      'replaced by an older copy',
      () => {
        const older = readFileSync(path);
        rmSync(path);
        writeFileSync(path, older);
      },
    ],
    [
      'changed by a byte',
      () => {
        const bytes = readFileSync(path);
        bytes[bytes.length - 100] = (bytes[bytes.length - 100] as number) ^ 1;
        writeFileSync(path, bytes);
      },
    ],
  ])('%s: answers nothing wrong, and builds them anew without a restart', async (_, damage) => {
    const service = await start();
    await ready(service);
    const key = await create(service);
    const deleted = await create(service);
    await service.ask('DELETE', `${PATH}/${deleted.id}`, { token: await service.token('admin') });
    expect((await verify(service, deleted)).json).toMatchObject({ valid: false, reason: 'DELETED' });
    const inode = statSync(path).ino;
    damage();
    await eventually(async () => {
      const [one, other] = [await verify(service, key), await verify(service, deleted)];
      if (one.status === 200) expect(one.json).toMatchObject({ valid: true });
      else expect(one.json).toMatchObject({ code: expect.stringMatching(/PROJECTIONS_DAMAGED|STARTING/) });
      if (other.status === 200) expect(other.json).toMatchObject({ valid: false, reason: 'DELETED' });
      return service.output().includes('Building it anew') || service.output().includes('built anew');
    });
    await eventually(async () => (await verify(service, key)).status === 200);
    await ready(service);
    expect((await verify(service, key)).json).toMatchObject({ valid: true });
    expect(statSync(path).ino).not.toBe(inode);
  });
});

describe('two services in one folder', () => {
  it('have projections of their own, and the second says so', async () => {
    const [one, two] = [await start(), await start()];
    for (const service of [one, two]) await ready(service);
    expect([one, two].filter((service) => service.output().includes('projections-2.db'))).toHaveLength(1);
    const key = await create(one);
    await eventually(async () => (await verify(two, key)).json['valid'] === true);
    await two.end('SIGTERM');
    await one.end('SIGTERM');
    await ready(await start());
    expect(
      readdirSync(folder.path)
        .filter((name) => /^projections.*\.db$/.test(name))
        .sort(),
    ).toEqual(['projections-2.db', 'projections.db']);
  });
});

it('no secret is in the projections, and only the owner may read them', async () => {
  const service = await start();
  await ready(service);
  const { secret } = await create(service);
  await service.end('SIGTERM');
  const bytes = readFileSync(path, 'latin1');
  expect(bytes.includes(secret)).toBe(false);
  expect(bytes.includes(createHash('sha256').update(secret).digest('hex'))).toBe(true);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});
