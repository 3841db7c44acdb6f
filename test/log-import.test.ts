import { spawnSync } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import fc from 'fast-check';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { MAX_EVENT_BYTES, type RecordedEvent } from '../src/event-store/event-store.js';
import { importEvents } from '../src/log-transfer/import.js';
import { readExport } from '../src/log-transfer/read-export.js';
import { eventually } from './support/assertions/eventually.js';
import { answersOf, expectCopy } from './support/assertions/expect-copy.js';
import {
  eventsAt,
  exportOf,
  fill,
  logCopyWorkspace,
  unreadableEvents,
  withLogAt,
} from './support/fixtures/log-copies.js';

const EVENTS = 5000;
const place = logCopyWorkspace();
const original = place.urlOf('log.db');
let whole: Buffer;
let events: RecordedEvent[];
let files = 0;
const fresh = (extension: string) => `${++files}.${extension}`;
/** Writes a file with this content. */
const fileOf = (content: Buffer | string, extension = 'ndjson') => {
  const path = place.at(fresh(extension));
  writeFileSync(path, content);
  return path;
};

beforeAll(async () => {
  await withLogAt(original, (log) => fill(log, EVENTS, unreadableEvents('shop')));
  expect(place.run('log.db', ['export', '--output', place.at('whole.ndjson')]).code).toBe(0);
  whole = readFileSync(place.at('whole.ndjson'));
  events = await eventsAt(original);
});
afterAll(() => place.remove());

describe('keyledger log import', () => {
  it('makes a copy with a log id of its own, which answers as the original', async () => {
    const { code, stdout, stderr } = place.run('copy.db', ['import', place.at('whole.ndjson')]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Imported 5,0\d\d events into the log \S+, which already held 0, in \d+\.\d s\n$/);
    await expectCopy(original, place.urlOf('copy.db'));
  });

  it('run again says that all is there', async () => {
    const before = await eventsAt(place.urlOf('copy.db'));
    const repeated = place.run('copy.db', ['import', place.at('whole.ndjson')]);
    expect(repeated).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('events are already in the log'),
    });
    const { code, stdout } = place.run('copy.db', ['import', '--json', place.at('whole.ndjson')]);
    expect([code, JSON.parse(stdout)]).toEqual([
      0,
      {
        events: events.length,
        there: events.length,
        written: 0,
        logId: before[0]?.position.slice(0, 36),
        fromLogId: events[0]?.position.slice(0, 36),
        seconds: expect.any(Number),
      },
    ]);
    expect(await eventsAt(place.urlOf('copy.db'))).toEqual(before);
  });

  it('copies a copy, which still says where and when each event came into the first log', async () => {
    expect(place.run('copy.db', ['export', '--output', place.at('second.ndjson')]).code).toBe(0);
    expect(place.run('second.db', ['import', place.at('second.ndjson')]).code).toBe(0);
    const copies = (await eventsAt(place.urlOf('second.db'))).slice(0, events.length);
    const [first, metadata] = [events[0], copies[0]?.metadata];
    const { position, recordedAt } = first as RecordedEvent;
    expect(metadata).toMatchObject({ importedFrom: { position, recordedAt } });
    expect(await answersOf(place.urlOf('second.db'))).toEqual(await answersOf(original));
  });

  it('takes one repository too', async () => {
    const file = place.at('repo.ndjson');
    expect(place.run('log.db', ['export', '--repo', 'shop', '--output', file]).code).toBe(0);
    expect(place.run('repo.db', ['import', file]).code).toBe(0);
    const copied = await eventsAt(place.urlOf('repo.db'));
    expect(copied.map(({ id }) => id)).toEqual(
      (await eventsAt(original)).flatMap(({ id, stream, data }) =>
        oddStreams(events).has(stream) || (data as { repoId?: string }).repoId === 'shop' ? [id] : [],
      ),
    );
  });

  it.each([
    ['gzipped', () => place.run('gz.db', ['import', fileOf(gzipSync(whole), 'any')])],
    ['from stdin', () => place.run('stdin.db', ['import', '-'], whole)],
    ['gzipped from stdin', () => place.run('stdin-gz.db', ['import', '-'], gzipSync(whole))],
  ])('takes an export %s', (_, run) => {
    expect(run()).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Imported 5,0/) });
  });

  it('takes an export from a pipe that has a name', async () => {
    expect(spawnSync('mkfifo', [place.at('fifo')]).status).toBe(0);
    const { ended } = place.start('fifo.db', ['import', place.at('fifo')]);
    createWriteStream(place.at('fifo')).end(whole);
    expect(await ended).toEqual([0, null]);
    expect(await eventsAt(place.urlOf('fifo.db'))).toHaveLength(events.length);
  });

  it('gives each event as much of where it came from as there is room for', async () => {
    const stream = apiKeyStream(uuid());
    const metadata = { by: 'test' };
    const room = MAX_EVENT_BYTES - JSON.stringify({ text: '' }).length - JSON.stringify(metadata).length;
    const sized = (length: number, revision: number) => ({
      ...{ id: uuid(), stream, revision, type: 'Tested', data: { text: 'x'.repeat(length) }, metadata },
      ...{ recordedAt: '2026-01-01T00:00:00.000Z', position: `${uuid()}:0000000000000002` },
    });
    const exported = [sized(room, 0), sized(room - 300, 1)];
    expect(place.run('large.db', ['import', fileOf(await exportOf(exported))]).code).toBe(0);
    const [largest, smaller] = await eventsAt(place.urlOf('large.db'));
    expect(largest).toMatchObject({ data: exported[0]?.data, metadata });
    const { position, recordedAt } = exported[1] as (typeof exported)[number];
    expect(smaller?.metadata).toEqual({ ...metadata, importedFrom: { position, recordedAt } });
  });

  it('stops where the export lacks a revision, and says so', async () => {
    const { stream } = events.find(({ revision }) => revision === 2) as RecordedEvent;
    const gap = events.filter((event) => event.stream !== stream || event.revision !== 1);
    const { code, stderr } = place.run('gap.db', ['import', fileOf(await exportOf(gap))]);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`${stream} is not at the expected revision`)]);
    expect(stderr).toContain('the exported log had lost events');
  });
});

const oddStreams = (some: readonly RecordedEvent[]) =>
  new Set(some.filter(({ data }) => (data as { repoId?: string })?.repoId === 'shop').map(({ stream }) => stream));

describe('a file that is no whole export', () => {
  const lines = () => whole.toString().trimEnd().split('\n');
  const joined = (some: string[]) => Buffer.from(`${some.join('\n')}\n`);
  const changed = (at: number, change: (line: string) => string) =>
    joined(lines().map((line, i) => (i === at ? change(line) : line)));
  const withZeros = (content: Buffer) => Buffer.concat([content, Buffer.alloc(4_000_000)]);
  const AFTER_GZIP = 'Data follows after the end of the gzip';
  const otherChecksum = (packed: Buffer) => {
    packed.writeUInt32LE(7, packed.length - 8);
    return packed;
  };
  const cases: [name: string, content: () => Buffer | Promise<Buffer>, why: string][] = [
    ['is empty', () => Buffer.alloc(0), 'empty'],
    ['is something else', () => Buffer.from('{"apiKeys":[]}\n'), 'not an export of a log'],
    ['is no text', () => Buffer.alloc(4_000_000, 7), 'not an export of a log'],
    [
      'is a CSV',
      () => Buffer.from(place.run('log.db', ['export', '--format', 'csv']).stdout),
      'not an export of a log',
    ],
    ['is null', () => Buffer.from('null\n'), 'not an export of a log'],
    [
      'is of a later version',
      () => exportOf(events, { version: 2 }),
      'format version 2, but this release reads only version 1',
    ],
    ['has a bad header', () => exportOf(events, { logId: 7 }), 'The header is invalid'],
    ['is cut off after the header', () => joined(lines().slice(0, 1)), 'truncated after 0 events'],
    ['lacks its last line', () => joined(lines().slice(0, -1)), 'its last line is missing'],
    ['is cut off within a line', () => whole.subarray(0, whole.length / 2), 'truncated'],
    ['is cut off by one byte', () => whole.subarray(0, -1), 'truncated'],
    ['has another name in it', () => changed(7, (line) => line.replace('search', 'change')), 'was changed'],
    ['lacks a line', () => joined(lines().toSpliced(100, 1)), 'was changed'],
    ['holds a line twice', () => joined(lines().toSpliced(100, 0, lines()[100] as string)), 'was changed'],
    [
      'has two lines in another order',
      () => joined(lines().toSpliced(99, 2, ...lines().slice(99, 101).reverse())),
      'was changed',
    ],
    ['has a broken line', () => changed(50, (line) => line.slice(1)), 'Line 51 is not an event: not JSON'],
    ['counts wrong', () => changed(lines().length - 1, (line) => line.replace(/\d+/, '7')), 'says 7'],
    ['is there twice', () => Buffer.concat([whole, whole]), 'follows after the end'],
    ['has a word behind it', () => Buffer.concat([whole, Buffer.from('more\n')]), 'follows after the end'],
    ['has bytes behind it', () => Buffer.concat([whole, Buffer.alloc(9)]), 'follows after the end'],
    ['has a line without an end behind it', () => withZeros(whole), 'follows after the end'],
    ['is a gzip with bytes behind it', () => Buffer.concat([gzipSync(whole), Buffer.alloc(9)]), AFTER_GZIP],
    ['is a gzip with many bytes behind it', () => withZeros(gzipSync(whole)), AFTER_GZIP],
    [
      'is a gzip with a word behind it',
      () => Buffer.concat([gzipSync(whole), Buffer.from('more')]),
      'data follows after its end',
    ],
    ['is a gzip with another checksum', () => otherChecksum(gzipSync(whole)), 'gzip is damaged or truncated'],
    ['is a gzip that is cut off', () => gzipSync(whole).subarray(0, 100_000), 'gzip is damaged or truncated'],
    ['is two gzips', () => Buffer.concat([gzipSync(whole), gzipSync(whole)]), 'follows after the end'],
    [
      'is of settings of the server',
      () => exportOf([{ ...events[0], stream: '$settings' }]),
      'does not belong to Keyledger',
    ],
    [
      'is of the beginning of a log',
      () => exportOf([{ ...events[0], stream: 'keyledger-log' }]),
      'does not belong to Keyledger',
    ],
    ['holds an id that is none', () => exportOf([{ ...events[0], id: 'x' }]), 'Line 2 is not an event'],
    ['holds an event without data', () => exportOf([{ ...events[0], data: undefined }]), 'is missing'],
    [
      'holds too large an event',
      () => exportOf([{ ...events[0], data: 'x'.repeat(MAX_EVENT_BYTES) }]),
      'is larger than',
    ],
    ['begins in the middle', () => exportOf(events, { from: '2026-01-01T00:00:00Z' }), 'begins in the middle'],
  ];
  it.each(cases)('because it %s is refused, before a log is made', async (_, content, why) => {
    const target = fresh('db');
    const { code, stdout, stderr } = place.run(target, ['import', fileOf(await content())]);
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringContaining(why)]);
    expect(stderr.trimEnd().split('\n').length).toBeLessThan(5);
    expect(existsSync(place.at(target))).toBe(false);
  });

  it('that is not there is an error', () => {
    const { code, stderr } = place.run('never.db', ['import', place.at('nothing')]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('ENOENT')]);
  });
});

describe('a log that holds something else', () => {
  const refused = async (target: string, why: string) => {
    const before = await eventsAt(place.urlOf(target));
    const { code, stdout, stderr } = place.run(target, ['import', place.at('whole.ndjson')]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(why);
    expect(stderr).toContain('Nothing was written');
    expect(await eventsAt(place.urlOf(target))).toEqual(before);
  };
  const one = { id: uuid(), type: 'ApiKeyDeleted', data: {}, metadata: {} };

  it('is refused: another log', async () => {
    await withLogAt(place.urlOf('other.db'), (log) => log.append(apiKeyStream(uuid()), [one], 'no-stream'));
    await refused('other.db', `its event 1 is ApiKeyDeleted ${one.id}`);
  });

  it('is refused: the beginning of the export, and then something else', async () => {
    const begun = await exportOf(events.slice(0, 100));
    expect(place.run('begun.db', ['import', fileOf(begun)]).code).toBe(0);
    await withLogAt(place.urlOf('begun.db'), (log) => log.append(apiKeyStream(uuid()), [one], 'no-stream'));
    await refused('begun.db', 'its event 101 is ApiKeyDeleted');
  });

  it('is refused: the export with an event left out', async () => {
    const { stream } = events[100] as RecordedEvent;
    const holed = events.filter((event) => event.stream !== stream);
    expect(place.run('holed.db', ['import', fileOf(await exportOf(holed))]).code).toBe(0);
    await refused('holed.db', 'does not hold the beginning of this export');
  });

  it('is refused: the whole export and more', async () => {
    expect(place.run('more.db', ['import', place.at('whole.ndjson')]).code).toBe(0);
    await withLogAt(place.urlOf('more.db'), (log) => log.append(apiKeyStream(uuid()), [one], 'no-stream'));
    await refused('more.db', 'it has grown since');
  });

  it('is refused: the log itself, which has grown', async () => {
    expect(place.run('log.db', ['export']).code).toBe(0);
    await refused('log.db', 'it has grown since');
  });
});

describe('an import that kill -9 ends', () => {
  it('is finished when it is run again, wherever it was', async () => {
    const [target, file] = [place.at('killed.db'), place.at('big.ndjson')];
    await withLogAt(place.urlOf('big.db'), (log) => fill(log, 30_000, unreadableEvents('shop')));
    expect(place.run('big.db', ['export', '--output', file]).code).toBe(0);
    const total = (await eventsAt(place.urlOf('big.db'))).length;
    const held = () => {
      const db = new DatabaseSync(target);
      try {
        return (db.prepare('SELECT count(*) - 1 AS held FROM events').get() as { held: number }).held;
      } catch {
        return 0;
      } finally {
        db.close();
      }
    };
    let kills = 0;
    const counts: number[] = [];
    for (let enough = 1; ; enough = (counts.at(-1) ?? 0) + 5000) {
      const { child, ended } = place.start('killed.db', ['import', file]);
      if (enough < total) {
        await eventually(() => existsSync(target) && (held() >= enough || child.exitCode !== null));
        child.kill('SIGKILL');
      }
      const [code] = await ended;
      counts.push(held());
      if (code === 0) break;
      kills++;
    }
    expect(kills).toBeGreaterThan(0);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    await expectCopy(place.urlOf('big.db'), place.urlOf('killed.db'));
  }, 90_000);

  it('before it writes leaves no log', async () => {
    const { child, ended } = place.start('early.db', ['import', '-']);
    child.stdin.write(whole.subarray(0, -100));
    await eventually(() => child.stdin.writableLength === 0);
    child.kill('SIGKILL');
    expect([await ended, existsSync(place.at('early.db'))]).toEqual([[null, 'SIGKILL'], false]);
  });
});

it('whatever a log holds, export, import and export give the same events', async () => {
  const json = fc.jsonValue({ maxDepth: 3 });
  const streams = Array.from({ length: 4 }, () => apiKeyStream(uuid()));
  const step = fc.record({
    stream: fc.constantFrom(...streams),
    id: fc.uuid(),
    type: fc.string({ minLength: 1, unit: 'grapheme' }),
    data: json,
    metadata: fc.oneof(json, fc.dictionary(fc.string(), json)),
  });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      run++;
      const [first, second] = [place.urlOf(`first-${run}.db`), place.urlOf(`second-${run}.db`)];
      const before = await withLogAt(first, async (log) => {
        const ends = new Map<string, number>();
        for (const { stream, ...event } of steps) {
          const end = ends.get(stream) ?? -1;
          await log.append(stream, [event as never], end < 0 ? 'no-stream' : end);
          ends.set(stream, end + 1);
        }
        const found: RecordedEvent[] = [];
        for await (const one of log.readAll()) found.push(one);
        return found;
      });
      const bytes = await exportOf(before);
      const { events: exported } = await readExport(
        (async function* () {
          yield bytes;
        })(),
      );
      await withLogAt(second, (log) => importEvents(log, exported, () => undefined));
      const after = await eventsAt(second);
      const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
      const expected = before.map(({ position, recordedAt, metadata, ...event }) => ({
        ...event,
        metadata:
          isObject(metadata) && !Object.hasOwn(metadata as object, 'importedFrom')
            ? { ...(metadata as object), importedFrom: { position, recordedAt } }
            : metadata,
      }));
      const kept = after.map(({ position: _, recordedAt: __, ...event }) => event);
      expect(kept).toEqual(expected);
    }),
    { numRuns: 25 },
  );
});
