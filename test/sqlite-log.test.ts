import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import type { EventStore } from '../src/event-store/event-store.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { openLogFile } from '../src/event-store/sqlite/schema.js';
import { eventually } from './support/assertions/eventually.js';
import { all, describeEventStore } from './support/contracts/event-store.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { describeEventStoreModel } from './support/models/event-store.js';

let folder: ReturnType<typeof temporaryFolder>;
let file: string;
const opened: EventStore[] = [];
const children: ChildProcess[] = [];
const open = async (path = file, onFatal: (error: Error) => void = unexpected) => {
  const log = await openSqliteLog(path, onFatal);
  opened.push(log);
  return log;
};
const unexpected = (error: Error) => {
  throw error;
};
const event = (id = uuid()) => ({ id, type: 'Tested', data: {}, metadata: {} });

const WRITER = 'dist/test/support/processes/sqlite-log-writer.js';
/** Starts the writing process and collects its output. */
function run(command: string, ...args: string[]) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const lines = (word: string) =>
    [...output.matchAll(new RegExp(`^${word} (.*)$`, 'gm'))].map(([, rest]) => rest as string);
  return { child, lines, output: () => output, ended: once(child, 'exit') };
}
const idsIn = async (log: EventStore) => (await all(log.readAll())).map(({ id }) => id);

beforeEach(() => {
  folder = temporaryFolder();
  file = join(folder.path, 'log.db');
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const log of opened.splice(0)) await log.close();
  folder.remove();
});

describe('the contract', () => {
  const home = temporaryFolder();
  describeEventStore('SQLite', () => openSqliteLog(join(home.path, 'log.db'), unexpected));
  describeEventStoreModel('SQLite', () => openSqliteLog(join(home.path, 'log.db'), unexpected));
});

describe('the file', () => {
  it('begins with the event that makes the log id, which no reader is given', async () => {
    const log = await open();
    expect(await all(log.readAll())).toEqual([]);
    const db = new DatabaseSync(file);
    expect(db.prepare('SELECT place, type, id FROM events').all()).toEqual([
      { place: 1, type: 'LogCreated', id: log.logId },
    ]);
    db.close();
  });

  it('is for its owner only', async () => {
    await open();
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('of a later release is refused, and left alone', async () => {
    await (await open()).close();
    const db = new DatabaseSync(file);
    db.exec('PRAGMA user_version = 99');
    db.close();
    await expect(openSqliteLog(file, unexpected)).rejects.toThrow(
      /later release \(file version 99, this one knows 1\)/,
    );
  });

  it('of something else is refused, and left alone', async () => {
    const text = join(folder.path, 'text');
    writeFileSync(text, 'Dear diary, '.repeat(1000));
    await expect(openSqliteLog(text, unexpected)).rejects.toThrow(/text is not a log of Keyledger/);
    expect(readFileSync(text, 'utf8')).toBe('Dear diary, '.repeat(1000));
    const db = new DatabaseSync(file);
    db.exec('CREATE TABLE users (name TEXT)');
    db.close();
    const before = readFileSync(file);
    await expect(openSqliteLog(file, unexpected)).rejects.toThrow(/log\.db is not a log of Keyledger/);
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it.each([
    [0x6969, 'NFS'],
    [0xff534d42, 'CIFS'],
    [0xfe534d42, 'SMB2'],
    [0x01021997, '9P'],
  ])('on a network file system (%d) is refused by name', async (type, name) => {
    await expect(openLogFile(file, () => ({ type }))).rejects.toThrow(`network file system (${name})`);
    expect(existsSync(file)).toBe(false);
  });

  it('that cannot be made is refused with the reason', async () => {
    await expect(openSqliteLog('package.json/log.db', unexpected)).rejects.toThrow(
      /Cannot open the log .*package\.json.*: /,
    );
  });

  it('is opened by many at once for the first time, and is one log', async () => {
    const processes = Array.from({ length: 4 }, () => run(process.execPath, WRITER, file, '1'));
    await Promise.all(processes.map(({ ended }) => ended));
    expect(new Set(processes.flatMap(({ lines }) => lines('open'))).size).toBe(1);
    expect(await idsIn(await open())).toHaveLength(4);
  });
});

describe('a second process', () => {
  it('reads and writes the same file meanwhile, and a subscription here sees its events', async () => {
    const log = await open();
    const other = run(process.execPath, WRITER, file, '200');
    const mine = Array.from({ length: 200 }, () => event());
    const appending = Promise.all(mine.map((one) => log.append(apiKeyStream(one.id), [one], 'no-stream')));
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const page of log.subscribe(undefined, stop.signal)) {
      seen.push(...page.events.map(({ id }) => id));
      if (seen.length >= 400) stop.abort();
    }
    await Promise.all([appending, other.ended]);
    expect(seen).toEqual(await idsIn(log));
    expect([...seen].sort()).toEqual([...mine.map(({ id }) => id), ...other.lines('appended')].sort());
  });
});

describe('the disk', () => {
  it('that another process locks gives up on all that waits together, not on one group after the other', async () => {
    const log = await open();
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    const append = () =>
      log.append(apiKeyStream(uuid()), [event()], 'no-stream').catch((error: Error) => String(error.cause));
    // The first is a group of its own; the others would form three more.
    const outcomes = await Promise.all(Array.from({ length: 2500 }, append));
    other.close();
    expect(outcomes[0]).toContain('database is locked');
    expect(new Set(outcomes.slice(1))).toEqual(new Set(['Error: The log did not write it in time']));
  });

  it('is waited for by a thread: reads are answered while an append waits for another writer', async () => {
    const log = await open();
    const [first, stream] = [event(), apiKeyStream(uuid())];
    await log.append(stream, [first], 'no-stream');
    const other = new DatabaseSync(file);
    other.exec('BEGIN IMMEDIATE');
    let answered = false;
    const waiting = log.append(apiKeyStream(uuid()), [event()], 'no-stream').then((result) => {
      answered = true;
      return result;
    });
    for (let queries = 0; queries < 100; queries++) {
      expect(await all(log.readStream(stream))).toHaveLength(1);
      await setImmediate();
    }
    expect(answered).toBe(false);
    other.exec('ROLLBACK');
    other.close();
    expect(await waiting).toMatchObject({ appended: true });
  });

  it('takes many appends in one transaction', async () => {
    const log = await open();
    const reader = new DatabaseSync(file);
    const commits = new Set<number>();
    const look = () =>
      commits.add((reader.prepare('PRAGMA data_version').get() as { data_version: number }).data_version);
    const writing = Array.from({ length: 200 }, () =>
      log.append(apiKeyStream(uuid()), [event()], 'no-stream').then(look),
    );
    await Promise.all(writing);
    reader.close();
    expect(commits.size).toBeLessThan(20);
  });

  it('that is full acknowledges nothing, and resumes when there is room', async () => {
    const full = run('bash', '-c', `ulimit -f 400; exec "${process.execPath}" ${WRITER} "${file}" 2000 4000`);
    await full.ended;
    expect(new Set(full.lines('refused'))).toEqual(new Set(['UNAVAILABLE']));
    expect(full.lines('fatal')).toEqual([]);
    const acknowledged = full.lines('appended');
    expect(acknowledged.length).toBeGreaterThan(0);
    const log = await open();
    expect((await idsIn(log)).sort()).toEqual([...acknowledged].sort());
    expect(await log.append(apiKeyStream(uuid()), [event()], 'no-stream')).toMatchObject({ appended: true });
  });

  const strace = spawnSync('strace', ['-V']).status === 0;
  if (!strace) process.stderr.write('The test of a failed fsync is skipped: install strace to run it\n');
  (strace ? it : it.skip)(
    'whose fsync fails is not trusted again: the outcome is unknown, and nothing more is written',
    async () => {
      await (await open()).close();
      const inject = [
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-e',
        'trace=fsync,fdatasync',
        '-e',
        'inject=fsync,fdatasync:error=EIO:when=12+',
      ];
      const failing = run('strace', ...inject, process.execPath, WRITER, file, '5000');
      await failing.ended;
      expect(failing.lines('fatal')).toEqual([expect.stringContaining('The log could not be written')]);
      expect(failing.lines('refused')).toContain('OUTCOME_UNKNOWN');
      expect(new Set(failing.lines('refused'))).toEqual(new Set(['OUTCOME_UNKNOWN', 'UNAVAILABLE']));
      const found = await idsIn(await open());
      expect(found).toEqual(expect.arrayContaining(failing.lines('appended')));
      const unknown = failing.lines('refused').filter((code) => code === 'OUTCOME_UNKNOWN').length;
      expect(found.length).toBeLessThanOrEqual(failing.lines('appended').length + unknown);
    },
  );

  it('keeps every append that was acknowledged before kill -9', async () => {
    const writer = run(process.execPath, WRITER, file, '100000');
    await eventually(() => writer.lines('appended').length > 500);
    writer.child.kill('SIGKILL');
    await writer.ended;
    const acknowledged = writer.lines('appended');
    const found = await idsIn(await open());
    expect(found).toEqual(expect.arrayContaining(acknowledged));
    expect(found.length).toBeLessThanOrEqual(acknowledged.length + 8);
  });
});

describe('a file that is removed while it is open', () => {
  it.each(['removed', 'emptied'])('(%s) is noticed, and nothing more is acknowledged', async (how) => {
    const failures: Error[] = [];
    const log = await open(file, (error) => void failures.push(error));
    await log.append(apiKeyStream(uuid()), [event()], 'no-stream');
    if (how === 'removed') rmSync(file);
    else truncateSync(file);
    await eventually(() => failures.length > 0);
    expect(failures[0]?.message).toMatch(/log\.db was removed, emptied or replaced/);
    await expect(log.append(apiKeyStream(uuid()), [event()], 'no-stream')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
  });
});

describe('closing', () => {
  it('finishes what is under way, refuses what comes after, and ends subscriptions', async () => {
    const log = await open();
    const under = Array.from({ length: 50 }, () => log.append(apiKeyStream(uuid()), [event()], 'no-stream'));
    const subscription = all(log.subscribe(undefined, new AbortController().signal));
    const closed = log.close();
    await expect(log.append(apiKeyStream(uuid()), [event()], 'no-stream')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    for (const result of await Promise.all(under)) expect(result.appended).toBe(true);
    await closed;
    await log.close();
    await subscription;
    expect(await idsIn(await open())).toHaveLength(50);
  });
});
