import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { encode } from '../src/event-store/codec.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { occurredAtOf } from '../src/event-store/peek-event.js';
import type { Position } from '../src/event-store/position.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import { cloudEventLines, csvLines } from '../src/log-transfer/export-formats.js';
import { all } from './support/contracts/event-store.js';
import { eventsAt, fill, logCopyWorkspace, unreadableEvents, withLogAt } from './support/fixtures/log-copies.js';

const place = logCopyWorkspace();
const url = place.urlOf('log.db');
let events: RecordedEvent[];
beforeAll(async () => {
  await withLogAt(url, (log) => fill(log, 2000, unreadableEvents('shop')));
});
afterAll(() => place.remove());

const eventsFrom = async function* (some: readonly RecordedEvent[]) {
  yield* some;
};

/** RFC 4180, section 2. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const value = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  while (value.lastIndex < text.length) {
    const found = value.exec(text);
    if (!found) throw new Error('This is no CSV');
    row.push(found[1]?.replaceAll('""', '"') ?? found[2] ?? '');
    if (found[3] === ',') continue;
    rows.push(row);
    row = [];
  }
  return rows;
}

function named(name: string): RecordedEvent {
  const apiKeyId = uuid();
  const cause = { actor: { issuer: 'keyledger', subject: name }, requestId: name, commandId: 'c' };
  const data = { apiKeyId, repoId: 'shop', name };
  const event = encode({ type: 'ApiKeyRenamed', data }, uuid(), '2026-01-01T00:00:00.000Z', cause);
  const position = `${uuid()}:0000000000000002` as Position;
  return {
    ...event,
    stream: apiKeyStream(apiKeyId),
    revision: 1,
    position,
    recordedAt: '2026-01-01T00:00:00.001Z',
  };
}

describe.each(['csv', 'cloudevents'])('the export as %s', (format) => {
  it('holds every event and no secret material, sealed or hashed', async () => {
    const { code, stdout } = place.run('log.db', ['export', '--format', format]);
    expect(code).toBe(0);
    events = await eventsAt(url);
    const lines = format === 'csv' ? parseCsv(stdout).slice(1) : stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(events.length);
    const hidden = ['secretHash', 'sealedSecret', 'keyHash', 'requestHash'];
    const values: string[] = [];
    JSON.stringify(events, (name, value) => {
      if (hidden.includes(name)) values.push(value);
      return value;
    });
    expect(values.length).toBeGreaterThan(1000);
    for (const text of [...hidden, ...values]) expect(stdout.includes(text)).toBe(false);
    for (const { id, position } of events) expect(stdout.includes(id) && stdout.includes(position)).toBe(true);
  });
});

describe('CSV', () => {
  it('has a line of names, and one for each event with what it says', async () => {
    const [names = [], ...rows] = parseCsv((await all(csvLines(eventsFrom(events)))).join(''));
    const facts = rows.map((row) => Object.fromEntries(names.map((name, i) => [name, row[i]])));
    expect(facts).toHaveLength(events.length);
    for (const [i, event] of events.entries()) {
      const { id, stream, revision, type, position, recordedAt } = event;
      const where = { id, stream, type, position, recordedAt, revision: String(revision) };
      expect(facts[i]).toMatchObject({ ...where, occurredAt: occurredAtOf(event) });
    }
    const created = facts.find(({ type }) => type === 'ApiKeyCreated');
    expect(created).toMatchObject({
      name: 'search feature 0',
      actorSubject: expect.stringMatching(/^person-/),
    });
    const blessed = facts.find(({ type }) => type === 'ApiKeyBlessed');
    expect(blessed).toMatchObject({ unreadable: 'unknown event type ApiKeyBlessed', repoId: '' });
  });

  it.each([
    ["=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"],
    ['+1', "'+1"],
    ['-1', "'-1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    [' =1', "' =1"],
    ['\t=1', "'\t'=1"],
    ['\r=1', "'\r'=1"],
    ['\u00a0\u200b=1', "'\u00a0\u200b=1"],
    ['＝1', "'＝1"],
    ['a;=1', "a;'=1"],
    ['1 - 1 = "0", too', '1 - 1 = "0", too'],
  ])('gives %j to a spreadsheet as %j', async (name, expected) => {
    const [, row = []] = parseCsv((await all(csvLines(eventsFrom([named(name)])))).join(''));
    expect(row.filter((value) => value === expected)).toHaveLength(3);
  });

  it('begins no value with a formula, wherever the spreadsheet divides them', async () => {
    const part = fc.constantFrom('=', '+', '-', '@', ',', ';', '\t', '\n', '"', "'", ' ', 'a', '＝');
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: part, minLength: 1 }), async (name) => {
        const text = (await all(csvLines(eventsFrom([named(name)])))).join('');
        const [, row = []] = parseCsv(text);
        for (const value of row.flatMap((one) => one.split(/[,;\t\r\n]/))) {
          expect(value.trim()).not.toMatch(/^[=+\-@＝]/);
        }
        expect(row).toHaveLength(text.slice(0, text.indexOf('\r')).split(',').length);
      }),
    );
  });
});

describe('CloudEvents', () => {
  it('are such as the specification asks for', async () => {
    const lines = await all(cloudEventLines(eventsFrom(events)));
    const seen = new Set<string>();
    for (const [i, line] of lines.entries()) {
      expect(line.endsWith('\n')).toBe(true);
      const event = JSON.parse(line) as Record<string, unknown>;
      const { data, ...attributes } = event;
      const { subject } = event;
      const recorded = events[i] as RecordedEvent;
      expect(attributes).toEqual({
        specversion: '1.0',
        id: recorded.id,
        source: `urn:uuid:${recorded.position.slice(0, 36)}`,
        type: recorded.type,
        subject: apiKeyIdOf(recorded.stream) ?? subject,
        time: occurredAtOf(recorded),
        datacontenttype: 'application/json',
        position: `${recorded.position}.${recorded.id.slice(0, 8)}`,
      });
      expect(data).toMatchObject({ revision: recorded.revision });
      // https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
      for (const name of Object.keys(event)) expect(name).toMatch(/^[a-z0-9]{1,20}$/);
      expect(Object.keys(data as object).length).toBeGreaterThan(0);
      seen.add(`${attributes['source']} ${attributes['id']}`);
    }
    expect(seen.size).toBe(events.length);
  });
});
