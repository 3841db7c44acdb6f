import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DatabaseSync } from '@photostructure/sqlite';
import { v4 as uuid } from 'uuid';
import { commandLine } from '../src/cli/context.js';
import { recordAuditAccess } from '../src/commands/record-audit-access.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { occurredAtOf } from '../src/event-store/peek-event.js';
import { accessesOf } from './support/assertions/audit-accesses.js';
import { eventually } from './support/assertions/eventually.js';
import { eventsAt, fill, logCopyWorkspace, unreadableEvents, withLogAt } from './support/fixtures/log-copies.js';

const REPO = 'repository-1';
const place = logCopyWorkspace();
const url = place.urlOf('log.db');
const exported = (...args: string[]) => place.run('log.db', ['export', ...args]);
const linesOf = (text: string) => text.trimEnd().split('\n');
type Line = Omit<RecordedEvent, 'position'> & { position: string };
/** Events of an export, after checks of its header and its trailer. */
function eventsOf(text: string): Line[] {
  const lines = linesOf(text);
  const trailer = JSON.parse(lines.pop() as string);
  const header = JSON.parse(lines.shift() as string);
  expect(header).toMatchObject({ format: 'keyledger-log', version: 1 });
  const before = text.slice(0, text.lastIndexOf('\n', text.length - 2) + 1);
  expect(trailer).toEqual({
    events: lines.length,
    sha256: createHash('sha256').update(before).digest('hex'),
  });
  return lines.map((line) => JSON.parse(line));
}

beforeAll(async () => {
  await withLogAt(url, async (log) => {
    await fill(log, 3000, unreadableEvents(REPO));
    const [someKey] = unreadableEvents(REPO);
    const apiKeyId = (someKey as { stream: string }).stream.slice(9);
    await log.append(someKey?.stream as string, someKey?.events ?? [], 'no-stream');
    await recordAuditAccess(commandLine(log), { access: 'history', repoId: null, apiKeyId, query: {} });
  });
});
afterAll(() => place.remove());

describe('keyledger log export', () => {
  it('is the whole log in order, the record of this export too, and says so on stderr', async () => {
    const { code, stdout, stderr } = exported();
    expect(code).toBe(0);
    const events = eventsOf(stdout);
    expect(events).toEqual(await eventsAt(url));
    expect(events.at(-1)).toMatchObject({ type: 'AuditAccessed', data: { access: 'export' } });
    expect(JSON.parse(linesOf(stdout)[0] as string)).toEqual({
      format: 'keyledger-log',
      version: 1,
      logId: events[0]?.position.slice(0, 36),
      from: null,
      to: events.at(-1)?.position,
      repo: null,
      exportedAt: expect.any(String),
    });
    expect(stderr).toMatch(/^Exported 3,0\d\d events of the log \S+ in \d+\.\d s\n$/);
  });

  it('is written down with what was asked for, by somebody whom nobody has verified', async () => {
    const { code } = exported('--repo', REPO, '--to', '2026-01-01T00:00:00+02:00', '--format', 'csv');
    expect(code).toBe(0);
    expect((await accessesOf({ EVENT_STORE_URL: url })).at(-1)).toMatchObject({
      data: {
        access: 'export',
        repoId: REPO,
        apiKeyId: null,
        query: { format: 'csv', to: '2026-01-01T00:00:00+02:00' },
        verified: false,
      },
    });
  });

  it('says nothing at all where it cannot be written down', () => {
    const db = new DatabaseSync(place.at('log.db'));
    db.exec('BEGIN IMMEDIATE');
    const { code, stdout, stderr } = exported('--output', place.at('never.ndjson'));
    db.close();
    expect([code, stdout, existsSync(place.at('never.ndjson'))]).toEqual([1, '', false]);
    expect(stderr).toContain('Not done');
  });

  it('ends where the log ended when it began, while others write', async () => {
    const { child, ended } = place.start('log.db', ['export']);
    let text = '';
    let running = true;
    child.stdout.setEncoding('utf8').on('data', (some) => {
      text += some;
    });
    const writing = withLogAt(url, async (log) => {
      while (running) {
        await log.append(`aiApiKey-${uuid()}`, [{ id: uuid(), type: 'Written', data: {}, metadata: {} }], 'no-stream');
      }
    });
    const [code] = await ended;
    running = false;
    await writing;
    expect(code).toBe(0);
    const events = eventsOf(text);
    expect(events.at(-1)?.position).toBe(JSON.parse(linesOf(text)[0] as string).to);
    expect(events).toEqual((await eventsAt(url)).slice(0, events.length));
  });

  it('ends quietly when its reader goes', async () => {
    const { child, ended, stderr } = place.start('log.db', ['export']);
    child.stdout.once('data', () => child.stdout.destroy());
    expect([await ended, stderr()]).toEqual([[141, null], '']);
  });

  it('does not make a log that is not there', () => {
    const { code, stderr } = place.run('none.db', ['export']);
    expect([code, existsSync(place.at('none.db'))]).toEqual([1, false]);
    expect(stderr).toContain('There is no log at');
  });
});

describe('a part of the log', () => {
  it('contains what follows a position, up to and including another', async () => {
    const all = await eventsAt(url);
    const [from, to] = [all[99]?.position as string, all[199]?.position as string];
    const { stdout } = exported('--from', from, '--to', to);
    expect(eventsOf(stdout)).toEqual(all.slice(100, 200));
    expect(JSON.parse(linesOf(stdout)[0] as string)).toMatchObject({ from, to });
  });

  it('is what occurred between two times, both of them included', async () => {
    const all = await eventsAt(url);
    const [from, to] = [all[100], all[200]].map((event) => occurredAtOf(event as RecordedEvent)) as [string, string];
    const expected = all.filter((event) => occurredAtOf(event) >= from && occurredAtOf(event) <= to);
    expect(expected.length).toBeGreaterThan(50);
    expect(eventsOf(exported('--from', from, '--to', to).stdout)).toEqual(expected);
  });

  it('up to a time holds the beginning of each stream', async () => {
    const events = eventsOf(exported('--to', '2025-03-01T00:00:00Z').stdout);
    const next = new Map<string, number>();
    for (const { stream, revision } of events) {
      expect(revision).toBe(next.get(stream) ?? 0);
      next.set(stream, revision + 1);
    }
    expect(events.length).toBeGreaterThan(500);
  });

  it('is one repository, with what cannot be read of it, and with who looked at it or at its keys', async () => {
    const events = eventsOf(exported('--repo', REPO).stdout);
    const all = await eventsAt(url);
    const first = new Map(all.filter(({ revision }) => revision === 0).map((event) => [event.stream, event]));
    const repoOf = ({ stream, data }: RecordedEvent) => {
      const { repoId, apiKeyId } = data as { repoId?: string; apiKeyId?: string };
      if (stream.startsWith('auditAccess-') && repoId) return repoId;
      const key = first.get(stream.startsWith('aiApiKey-') ? stream : `aiApiKey-${apiKeyId}`);
      return (key?.data as { repoId?: string } | undefined)?.repoId;
    };
    expect(events).toEqual(all.filter((event) => repoOf(event) === REPO));
    const types = new Set(events.map(({ type }) => type));
    expect([...types]).toEqual(expect.arrayContaining(['ApiKeyBlessed', 'AuditAccessed', 'ApiKeyDeleted']));
    const ofKeys = events.filter(({ type, data }) => type === 'AuditAccessed' && !(data as { repoId: unknown }).repoId);
    expect(ofKeys).toHaveLength(1);
    expect(events.length).toBeLessThan(all.length / 2);
  });

  it('that nobody is in is an export of nothing', () => {
    expect(eventsOf(exported('--repo', 'nobody', '--to', '2026-01-01T00:00:00Z').stdout)).toEqual([]);
  });

  it.each([
    ['yesterday', 'neither a position of this log nor a time'],
    [`${uuid()}:0000000000000002`, 'belongs to another log'],
  ])('is refused by a place such as %s', (text, why) => {
    const { code, stdout, stderr } = exported('--from', text);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(why);
  });
});

describe('a file', () => {
  it('is there as a whole, for its owner only, and takes the place of an older one', async () => {
    const file = place.at('export.ndjson');
    writeFileSync(file, 'older');
    const { code, stdout, stderr } = exported('--output', file, '--json');
    expect([code, stderr]).toEqual([0, '']);
    const events = eventsOf(readFileSync(file, 'utf8'));
    expect(events).toEqual(await eventsAt(url));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(stdout)).toEqual({
      logId: events[0]?.position.slice(0, 36),
      from: null,
      to: events.at(-1)?.position,
      repo: null,
      format: 'ndjson',
      events: events.length,
      output: file,
      seconds: expect.any(Number),
    });
  });

  it('that ends in .gz is gzipped, and so is stdout with --gzip', async () => {
    const file = place.at('export.ndjson.gz');
    expect(exported('--output', file).code).toBe(0);
    const ofFile = eventsOf(gunzipSync(readFileSync(file)).toString());
    expect(exported('--gzip', '--output', place.at('packed')).code).toBe(0);
    const ofFlag = eventsOf(gunzipSync(readFileSync(place.at('packed'))).toString());
    expect(ofFlag).toEqual(await eventsAt(url));
    expect(ofFile).toEqual(ofFlag.slice(0, -1));
    const { child, ended } = place.start('log.db', ['export', '--gzip']);
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => void chunks.push(chunk));
    expect(await ended).toEqual([0, null]);
    expect(eventsOf(gunzipSync(Buffer.concat(chunks)).toString())).toEqual(await eventsAt(url));
  });

  let big: Promise<void> | undefined;
  it.each([
    ['SIGKILL', null],
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)(
    'is not there when %s ends the export of it, and an older one is as it was',
    async (signal, code) => {
      const file = place.at('cut.ndjson');
      writeFileSync(file, 'older');
      const parts = () => readdirSync(place.at('.')).filter((name) => name.endsWith('.part'));
      const before = parts().length;
      big ??= withLogAt(place.urlOf('big.db'), (log) => fill(log, 30_000));
      await big;
      const { child, ended } = place.start('big.db', ['export', '--gzip', '--output', file]);
      await eventually(() => parts().length > before);
      child.kill(signal);
      expect((await ended)[0]).toBe(code);
      expect(readFileSync(file, 'utf8')).toBe('older');
      expect(parts().length).toBe(signal === 'SIGKILL' ? before + 1 : before);
    },
    60_000,
  );

  it('that cannot be written is an error', () => {
    const nowhere = exported('--output', place.at('no/such/folder'));
    expect([nowhere.code, nowhere.stderr]).toEqual([1, expect.stringContaining('ENOENT')]);
    const device = exported('--output', '/dev/null');
    expect([device.code, device.stderr]).toEqual([1, expect.stringContaining('not a regular file')]);
    expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  });
});
