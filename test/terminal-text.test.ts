import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { makeAccessKey } from '../src/security/credentials.js';
import { jsonText, terminalLines, terminalText } from '../src/terminal-text.js';
import { withLogAt } from './support/fixtures/log-copies.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { CLI } from './support/servers/child-service.js';

/** Code points that must reach no terminal: controls, bidirectional overrides, and invisible ones. */
const RAW: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x09],
  [0x0b, 0x1f],
  [0x7f, 0x9f],
  [0xad, 0xad],
  [0x34f, 0x34f],
  [0x61c, 0x61c],
  [0x115f, 0x1160],
  [0x17b4, 0x17b5],
  [0x180b, 0x180f],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x206f],
  [0x3164, 0x3164],
  [0xd800, 0xdfff],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
  [0xffa0, 0xffa0],
  [0xfff9, 0xfffb],
  [0xe0000, 0xe0fff],
];
/** Code points of a text that must reach no terminal, in hexadecimal; the caller splits it at line feeds first. */
const rawIn = (text: string): string[] =>
  [...text]
    .map((character) => character.codePointAt(0) as number)
    .filter((code) => RAW.some(([first, last]) => code >= first && code <= last))
    .map((code) => code.toString(16));
const FALSE_LINE = '\n2026-01-01T00:00:00.000Z  ApiKeyDeleted by root';
const HOSTILE = `ada${FALSE_LINE}\u001b[31m\u009b2J\r\u202egnp\u2066x\u2028y\u2029\u200bz\u00ad\u{e0041}\u007f\ufeff`;

describe('text for a terminal', () => {
  it('has unsafe characters escaped, and nothing else changed', () => {
    expect(terminalText('a\nb\u001b[31m\u202ex\u200b\u{e0041}')).toBe(
      'a\\u000ab\\u001b[31m\\u202ex\\u200b\\udb40\\udc41',
    );
    const plain = 'Suche für Köln 🔑 \\u0041 "quoted" ключ 検索 العربية é';
    expect(terminalText(plain)).toBe(plain);
    expect(terminalLines('one\u202e\ntwo\r\n')).toBe('one\\u202e\ntwo\n');
  });

  it('is one line without raw characters, whatever it is made from', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(rawIn(terminalText(text))).toEqual([]);
        expect(terminalText(text)).not.toContain('\n');
      }),
    );
  });

  it('as JSON is the same value', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })), (value) => {
        expect(rawIn(jsonText(value))).toEqual([]);
        expect(JSON.parse(jsonText(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
    expect(rawIn(jsonText({ [HOSTILE]: HOSTILE }))).toEqual([]);
  });
});

describe('the command line on a log with hostile names', () => {
  const folder = temporaryFolder();
  const url = `sqlite:${join(folder.path, 'log.db')}`;
  const [apiKeyId, accessKey] = [uuid(), makeAccessKey()];
  beforeAll(async () => {
    const metadata = {
      schemaVersion: 1,
      occurredAt: '2026-01-01T00:00:00.000Z',
      actor: { issuer: HOSTILE, subject: HOSTILE },
      requestId: HOSTILE,
      $correlationId: HOSTILE,
      $causationId: HOSTILE,
    };
    const secret = { secretHash: '0'.repeat(64), sealedSecret: 'sealed' };
    const key = { apiKeyId, repoId: 'shop', name: HOSTILE, aiType: 'AWS', accessKey, ...secret };
    const created = { id: uuid(), type: 'ApiKeyCreated', data: key, metadata };
    const renamed = {
      ...created,
      id: uuid(),
      type: 'ApiKeyRenamed',
      data: { repoId: 'shop', name: HOSTILE },
    };
    const unknown = { id: uuid(), type: HOSTILE, data: { apiKeyId, repoId: 'shop' }, metadata };
    await withLogAt(url, async (log) => {
      await log.append(
        apiKeyStream(apiKeyId),
        [created, { ...renamed, data: { ...renamed.data, apiKeyId } }],
        'no-stream',
      );
      await log.append(apiKeyStream(uuid()), [unknown], 'no-stream');
    });
  });
  afterAll(() => folder.remove());

  const run = (args: readonly string[], more: NodeJS.ProcessEnv = {}, input?: string) => {
    const env = { PATH: process.env['PATH'], DATA_DIR: folder.path, EVENT_STORE_URL: url, ...more };
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
      env,
      encoding: 'utf8',
      ...(input === undefined ? {} : { input }),
    });
    return { status, stdout, stderr };
  };
  const NOW = new Date(Date.now() - 1000).toISOString();
  const looks: [args: string[], lines: number][] = [
    [['audit', 'history', apiKeyId], 2],
    [['audit', 'events', '--repo', 'shop'], 3],
    [['audit', 'as-of', '--repo', 'shop', '--at', NOW], 1],
    [['audit', 'could-use', accessKey, '--at', NOW], 3],
    [['audit', 'verify'], 4],
  ];

  it.each(looks)('says no false line: %j', (args, lines) => {
    const { stdout, stderr } = run(args);
    expect(rawIn(stdout + stderr)).toEqual([]);
    expect(stdout).not.toMatch(/^2026-01-01T00:00:00.000Z {2}ApiKeyDeleted/m);
    expect(stdout).toContain('\\u000a2026-01-01T00:00:00.000Z  ApiKeyDeleted by root\\u001b[31m');
    expect(stdout.trimEnd().split('\n').length).toBeGreaterThanOrEqual(lines);
  });

  it.each(looks)('says in JSON what is there: %j', (args) => {
    const { stdout } = run([...args, '--json']);
    expect(rawIn(stdout)).toEqual([]);
    const values = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.stringify(JSON.parse(line)));
    expect(values.join()).toContain(JSON.stringify(HOSTILE).slice(1, -1));
  });

  const wrong: [what: string, args: string[], environment?: NodeJS.ProcessEnv][] = [
    ['an unknown command', [HOSTILE]],
    ['an unknown option', ['audit', 'events', `--${HOSTILE}`]],
    ['an argument that is no id', ['audit', 'history', HOSTILE]],
    ['a value that is none', ['token', '--repo', 'a', '--role', HOSTILE]],
    ['a repository that is none', ['audit', 'events', '--repo', HOSTILE]],
    ['a time that is none', ['audit', 'as-of', '--repo', 'shop', '--at', HOSTILE]],
    ['a file that is not there', ['log', 'import', HOSTILE]],
    ['a log that is not there', ['audit', 'verify'], { EVENT_STORE_URL: `sqlite:/nowhere/${HOSTILE}` }],
    ['a setting that is wrong', ['serve'], { LOG_LEVEL: HOSTILE, TRUST_PROXY: HOSTILE }],
    ['a key file that is not there', ['serve'], { MASTER_KEYS_FILE: `/nowhere/${HOSTILE}` }],
    ['a stream that is none', ['projection', 'release', HOSTILE]],
  ];
  it.each(wrong)('says of %s nothing raw', (_, args, environment = {}) => {
    const { status, stdout, stderr } = run(args, environment);
    expect(status).toBeGreaterThan(0);
    expect(rawIn(stdout + stderr)).toEqual([]);
    expect(stdout + stderr).not.toMatch(/^2026-01-01T00:00:00.000Z {2}ApiKeyDeleted/m);
    expect(stderr + stdout).not.toBe('');
  });

  it('says of an import nothing raw', () => {
    const { stderr } = run(
      ['log', 'import', '-'],
      {},
      `${JSON.stringify({ format: 'keyledger-log', version: HOSTILE })}\n`,
    );
    expect(rawIn(stderr)).toEqual([]);
    expect(stderr.split('\n')).toHaveLength(2);
  });

  const hasTerminal = spawnSync('script', ['--version']).status === 0;
  (hasTerminal ? it : it.skip)('shows an export on a terminal without raw characters', () => {
    const command = `${process.execPath} ${CLI} log export 2>/dev/null`;
    const env = { PATH: process.env['PATH'], EVENT_STORE_URL: url };
    const { stdout } = spawnSync('script', ['--quiet', '--command', command, '/dev/null'], {
      env,
      encoding: 'utf8',
    });
    expect(stdout).toContain('ApiKeyRenamed');
    expect(rawIn(stdout.replaceAll('\r\n', '\n'))).toEqual([]);
  });
});

it('nothing in the command line prints but by the module that escapes', () => {
  const files = ['cli.ts', ...readdirSync('src/cli').map((name) => `cli/${name}`), 'terminal-text.ts'];
  const printing = files.filter((name) =>
    /console\.|process\.std(?:out|err)\.write/.test(readFileSync(join('src', name), 'utf8')),
  );
  // The progress bar writes its own line, from fixed words and numbers.
  expect(printing).toEqual(['cli/progress-bar.ts', 'terminal-text.ts']);
});
