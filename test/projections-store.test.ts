import { copyFileSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hex16, makePosition } from '../src/event-store/position.js';
import { toListItem } from '../src/projections/list-item.js';
import { createFile, finishFile, openFile, UnusableProjections } from '../src/projections/local/file.js';
import { withKeySource } from '../src/projections/local/key-source.js';
import { LiveFile } from '../src/projections/local/live-file.js';
import { claimSlot, tryClaim } from '../src/projections/local/slot.js';
import { ProjectionStore } from '../src/projections/local/store.js';
import { eventually } from './support/assertions/eventually.js';
import { LOG_ID, randomLog, recordedEvents } from './support/fixtures/random-log.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { KeyFold } from './support/models/key-fold.js';

const REPOSITORIES = ['repo-0', 'repo-1', 'repo-2', 'repo-3', 'repo-4', 'nowhere'];

let folder: ReturnType<typeof temporaryFolder>;
let path: string;
const opened: LiveFile[] = [];
const IGNORED = { onDamage: () => undefined, onNext: () => undefined };
const damages: Error[] = [];
beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, 'projections.db');
  damages.length = 0;
});
afterEach(async () => {
  for (const file of opened.splice(0)) await file.close('as it is');
  folder.remove();
});

function open(): LiveFile {
  const file = new LiveFile(path, LOG_ID, { onDamage: (error) => void damages.push(error), onNext: () => undefined });
  opened.push(file);
  return file;
}
async function create(): Promise<LiveFile> {
  const { db } = createFile(`${path}.new`, LOG_ID);
  await finishFile(db, `${path}.new`, path);
  return open();
}
function fold(file: LiveFile, events: readonly RecordedEvent[]): void {
  for (const event of events) file.store.fold(event);
  file.commit();
}
function folded(events: readonly RecordedEvent[]): KeyFold {
  const model = new KeyFold();
  for (const event of events) model.apply(event);
  return model;
}
const creations = (count: number) =>
  recordedEvents(Array.from({ length: count }, (_, key) => ({ change: 'create' as const, key, repo: key % 5 })));

/** Every answer that the store can give about the keys of a log. */
function answers(store: ProjectionStore, model: KeyFold): void {
  for (const entry of model.entries()) {
    const { apiKeyId, accessKey } = entry.key;
    expect(store.keys.get(apiKeyId)).toEqual(entry);
    if (accessKey !== '') expect(store.keyToVerify(accessKey)).toEqual(entry);
    expect(store.keys.get(apiKeyId.replace(/./, 'x'))).toBeUndefined();
    expect(store.keyToVerify(`${accessKey}x`)).toBeUndefined();
  }
  for (const repoId of REPOSITORIES) {
    expect([...store.keys.ofRepository(repoId)]).toEqual(model.keysOf(repoId));
    const [middle] = model.keysOf(repoId).slice(3);
    if (middle) {
      const { createdPosition } = middle;
      expect([...store.keys.ofRepository(repoId, createdPosition)]).toEqual(model.keysOf(repoId, createdPosition));
    }
  }
  expect(store.meta.quarantined).toBe(model.quarantined);
}

describe('the projections store', () => {
  it('answers as a fold of the log, whatever is committed together and however often it is opened', async () => {
    const cuts = fc.array(fc.record({ length: fc.integer({ min: 1, max: 200 }), isReopened: fc.boolean() }), {
      minLength: 1,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(randomLog(600), cuts, async (events, parts) => {
        let file = await create();
        let rest = events;
        for (let n = 0; rest.length > 0; n++) {
          const part = parts[n % parts.length] as (typeof parts)[number];
          fold(file, rest.slice(0, part.length));
          rest = rest.slice(part.length);
          if (!part.isReopened) continue;
          await file.close('whole');
          file = open();
        }
        answers(file.store, folded(events));
        expect(file.store.checkpoint).toEqual({ position: events.at(-1)?.position, eventId: events.at(-1)?.id });
        await file.close('whole');
      }),
      { numRuns: 30 },
    );
    expect(damages).toEqual([]);
  }, 180_000);

  it('finds every one of thousands of keys, and none that is not there', async () => {
    const events = creations(5000);
    const file = await create();
    fold(file, events);
    const model = folded(events);
    for (const entry of model.entries()) {
      expect(file.store.keys.get(entry.key.apiKeyId)).toEqual(entry);
      expect(file.store.keyToVerify(entry.key.accessKey)).toEqual(entry);
      expect(file.store.keyToVerify(`${entry.key.accessKey}x`)).toBeUndefined();
    }
  });

  it('shows nothing of what is not committed, and all of it afterwards, also of a key that was just verified', async () => {
    const [created, renamed] = recordedEvents([
      { change: 'create', key: 0, repo: 0 },
      { change: 'rename', key: 0, repo: 0 },
    ]) as [RecordedEvent, RecordedEvent];
    const file = await create();
    fold(file, [created]);
    const accessKey = [...folded([created]).entries()][0]?.key.accessKey as string;
    expect(file.store.keyToVerify(accessKey)?.key.name).toBe('key 0');
    file.store.fold(renamed);
    expect(file.store.keyToVerify(accessKey)?.key.name).toBe('key 0');
    file.commit();
    expect(file.store.keyToVerify(accessKey)?.key.name).toBe('renamed 1');
  });

  it('that finds no room writes nothing of a batch, and all of it when there is room', async () => {
    const events = creations(400);
    await (await create()).close('whole');
    const db = openFile(path, LOG_ID);
    const store = new ProjectionStore(db);
    const take = (some: readonly RecordedEvent[]) => {
      for (const event of some) store.fold(event);
      store.commit();
    };
    take(events.slice(0, 100));
    const { page_count: pages } = db.prepare('PRAGMA page_count').get() as { page_count: number };
    db.exec(`PRAGMA max_page_count = ${pages + 1}`);
    expect(() => take(events.slice(100))).toThrow('full');
    answers(store, folded(events.slice(0, 100)));
    db.exec('PRAGMA max_page_count = 1000000');
    take(events.slice(100));
    answers(store, folded(events));
    db.close();
  });

  it('keeps its WAL short, however many commits follow each other', async () => {
    const events = creations(4000);
    const file = await create();
    let longest = 0;
    for (let n = 0; n < events.length; n += 2) {
      fold(file, events.slice(n, n + 2));
      await file.walHasRoom();
      longest = Math.max(longest, statSync(`${path}-wal`).size);
    }
    answers(file.store, folded(events));
    expect(file.store.meta.commits).toBeGreaterThan(2000);
    expect(longest).toBeLessThan(64 * 2 ** 20);
  }, 60_000);

  it('gives its keys as of one moment to who fills a read model, while it goes on', async () => {
    const events = creations(300);
    const file = await create();
    fold(file, events.slice(0, 200));
    const before = folded(events.slice(0, 200));
    await withKeySource(path, async ({ all, changedAfter, checkpoint, get }) => {
      fold(file, events.slice(200));
      const found: string[] = [];
      for await (const items of all((repoId) => repoId !== 'repo-1'))
        found.push(...items.map(({ apiKeyId }) => apiKeyId));
      const expected = [...before.entries()].filter(({ key }) => key.repoId !== 'repo-1').map(toListItem);
      expect(found.sort()).toEqual(expected.map(({ apiKeyId }) => apiKeyId).sort());
      expect(checkpoint?.eventId).toBe(events[199]?.id);
      const changed: string[] = [];
      for await (const items of changedAfter(makePosition(LOG_ID, hex16(151)), () => true)) {
        changed.push(...items.map(({ apiKeyId }) => apiKeyId));
      }
      const ids = events.slice(150, 200).map(({ stream }) => stream.slice('aiApiKey-'.length));
      expect(changed).toEqual(ids);
      expect(get(ids[0] as string)?.apiKeyId).toBe(ids[0]);
    });
    answers(file.store, folded(events));
  });
});

describe('a projections file that was damaged', () => {
  /** Opens the file and asks it everything: each answer is right, or damage is reported. */
  function isSound(events: readonly RecordedEvent[]): boolean {
    let file: LiveFile | undefined;
    try {
      file = new LiveFile(path, LOG_ID, IGNORED);
      opened.push(file);
      answers(file.store, folded(events));
      return true;
    } catch (error) {
      if (error instanceof UnusableProjections) return false;
      expect(error).toMatchObject({ code: 'PROJECTIONS_DAMAGED' });
      return false;
    }
  }

  it('by a flipped bit anywhere never gives a wrong answer', async () => {
    const events = creations(120);
    const file = await create();
    fold(file, events);
    await file.close('whole');
    const whole = readFileSync(path);
    let found = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (offset, bit) => {
        const changed = Buffer.from(whole);
        changed[offset] = (changed[offset] as number) ^ (1 << bit);
        for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
        writeFileSync(path, changed);
        if (!isSound(events)) found++;
        await opened.pop()?.close('as it is');
      }),
      { numRuns: 300 },
    );
    expect(found).toBeGreaterThan(100);
  }, 180_000);

  it.each([
    ['cut in half', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    ['emptied', () => Buffer.alloc(0)],
    ['filled with zeros', (bytes: Buffer) => Buffer.alloc(bytes.length)],
    ['of some other program', () => Buffer.from('SQLite format 4')],
  ])('that is %s is not used', async (_, change) => {
    const events = creations(120);
    const file = await create();
    fold(file, events);
    await file.close('whole');
    writeFileSync(path, change(readFileSync(path)));
    expect(isSound(events)).toBe(false);
  });

  it('that is of another log is not used', async () => {
    await (await create()).close('whole');
    expect(() => new LiveFile(path, LOG_ID.replace('5', '6'), IGNORED)).toThrow('it is of another log');
  });

  it('whose WAL is gone, or of another time, is not used', async () => {
    const events = creations(300);
    const file = await create();
    fold(file, events.slice(0, 100));
    const wal = `${path}-wal`;
    // What a crash leaves: the last commits are in the WAL only.
    copyFileSync(path, `${path}.copy`);
    copyFileSync(wal, `${path}.copy-wal`);
    fold(file, events.slice(100));
    await file.close('as it is');

    copyFileSync(`${path}.copy`, path);
    rmSync(wal);
    expect(() => open()).toThrow('its WAL is gone');
    writeFileSync(wal, '');
    expect(() => open()).toThrow('its WAL is gone');
  });

  it('of which a crash left file and WAL goes on from its last commit', async () => {
    const events = creations(300);
    const file = await create();
    fold(file, events.slice(0, 100));
    fold(file, events.slice(100, 200));
    copyFileSync(path, `${path}.copy`);
    copyFileSync(`${path}-wal`, `${path}.copy-wal`);
    await file.close('as it is');
    for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true });
    copyFileSync(`${path}.copy`, path);
    copyFileSync(`${path}.copy-wal`, `${path}-wal`);
    const next = open();
    answers(next.store, folded(events.slice(0, 200)));
    fold(next, events.slice(200));
    answers(next.store, folded(events));
  });

  it('that is older than its WAL is not used', async () => {
    const events = creations(300);
    const file = await create();
    fold(file, events.slice(0, 100));
    copyFileSync(path, `${path}.older`);
    for (let n = 100; n < 300; n += 2) fold(file, events.slice(n, n + 2));
    await eventually(() => {
      file.store.describe({});
      file.commit();
      return file.store.meta.inFile > 0;
    });
    await file.close('as it is');
    copyFileSync(`${path}.older`, path);
    expect(() => open()).toThrow(UnusableProjections);
  });

  it.each([
    ['removed', () => rmSync(path)],
    ['cut', () => truncateSync(path, 4096)],
    [
      'replaced by a copy',
      () => {
        copyFileSync(path, `${path}.copy`);
        renameSync(`${path}.copy`, path);
      },
    ],
    ['overwritten', () => writeFileSync(path, Buffer.alloc(10_000))],
  ])('that is %s while it is open is noticed, without a read too', async (_, damage) => {
    const events = creations(120);
    const file = await create();
    fold(file, events);
    damage();
    await eventually(() => damages.length > 0);
    expect(() => file.store.keys.get('0')).toThrow(expect.objectContaining({ code: 'PROJECTIONS_DAMAGED' }));
  });
});

describe('the projections files of a folder', () => {
  it('are used by one process each, the first that is free', () => {
    const [one, two] = [claimSlot(folder.path), claimSlot(folder.path)];
    expect([one.path, two.path]).toEqual([path, join(folder.path, 'projections-2.db')]);
    expect(tryClaim(path)).toBeUndefined();
    one.release();
    const again = claimSlot(folder.path);
    expect(again.number).toBe(1);
    for (const slot of [two, again]) slot.release();
  });
});
