import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import { loadConfig } from '../src/config.js';
import { eventsAt, logCopyWorkspace, withLogAt } from './support/fixtures/log-copies.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, CLI, spawnService } from './support/servers/child-service.js';
import type { Json } from './support/servers/service.js';

/** See releases/README.md. */
const HOME = 'test/releases';
const MASTER_KEYS = `fixture:${Buffer.from('invented for these fixtures only').toString('base64')}`;
const JWT_SECRET = 'a signing secret that was invented for these fixtures only';
const SETTINGS = { MASTER_KEYS, JWT_SECRET };

type Given = { readonly id: string; readonly key: string; readonly secret: string };
type Expected = {
  readonly made: readonly { path: string; request: Json; idempotencyKey: string; given: Given }[];
  readonly lists: Readonly<Record<string, { apiKeys: readonly Json[] }>>;
  readonly verdicts: readonly { credential: Json; verdict: Json }[];
  readonly histories: Readonly<Record<string, { events: readonly Json[] }>>;
};

const releases = readdirSync(HOME, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

it('there is a fixture of this release and of the first', () => {
  expect(releases).toEqual(expect.arrayContaining(['first', 'first-export', version]));
});

/**
 * Matches an answer that contains all that the release answered; fields may have been added. Last uses are
 * not in the log: a release without them answered null, and this one omits them.
 */
const containing = (answer: unknown): unknown => {
  if (Array.isArray(answer)) return answer.map(containing);
  if (typeof answer !== 'object' || answer === null) return answer;
  const { lastUsedAt: _, ...recorded } = answer as Json;
  return expect.objectContaining(
    Object.fromEntries(Object.entries(recorded).map(([name, value]) => [name, containing(value)])),
  );
};

describe.each(releases)('what release %s wrote', (release) => {
  const at = (name: string) => join(HOME, release, name);
  const expected = JSON.parse(readFileSync(at('expected.json'), 'utf8')) as Expected;
  const hasExport = existsSync(at('export.ndjson'));
  const folder = temporaryFolder();
  const place = logCopyWorkspace();
  let service: Child;
  let admin: string;

  beforeAll(async () => {
    copyFileSync(at('keyledger.db'), join(folder.path, 'keyledger.db'));
    copyFileSync(at('keyledger.db'), place.at('original.db'));
    service = await spawnService(folder.path, SETTINGS);
    admin = await service.token('admin');
  });
  afterAll(async () => {
    await service.end('SIGKILL');
    folder.remove();
    place.remove();
  });

  const expectAnswers = async (child: Child) => {
    const auditor = await child.token('auditor');
    for (const [path, list] of Object.entries(expected.lists)) {
      expect((await child.ask('GET', path, { token: auditor })).json).toEqual(containing(list));
    }
    const verifier = await child.token('verifier');
    for (const { credential, verdict } of expected.verdicts) {
      const { json } = await child.ask('POST', '/verify', { token: verifier, body: credential });
      expect(json).toEqual(containing(verdict));
    }
    for (const { path, given } of expected.made) {
      const { status, json } = await child.ask('GET', `${path}/history`, { token: auditor });
      expect([status, (json['events'] as Json[])[0]]).toMatchObject([200, { type: 'ApiKeyCreated' }]);
      const body = { key: given.key, secret: given.secret };
      const { json: verdict } = await child.ask('POST', '/verify', { token: verifier, body });
      expect(verdict['reason']).not.toBe('UNAVAILABLE');
    }
  };

  it('is listed, verified and described as by that release', async () => {
    await expectAnswers(service);
    const token = await service.token('auditor');
    for (const [path, history] of Object.entries(expected.histories)) {
      expect((await service.ask('GET', `${path}/history`, { token })).json).toEqual(containing(history));
    }
  });

  it('is sound, and nothing of it is in quarantine', () => {
    const env = { PATH: process.env['PATH'], EVENT_STORE_URL: place.urlOf('original.db'), ...SETTINGS };
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'audit', 'verify'], { env });
    // No service has folded it, so there are no projections to compare.
    expect([status, String(stdout), String(stderr)]).toEqual([2, expect.stringContaining(', with no fault\n'), '']);
  });

  it('keeps each Idempotency-Key used', async () => {
    for (const { path, request, idempotencyKey, given } of expected.made) {
      const again = (body: object) =>
        service.ask('POST', path.slice(0, path.lastIndexOf('/')), {
          token: admin,
          body,
          headers: { 'idempotency-key': idempotencyKey },
        });
      // The same secret for 15 minutes, which matters right after the fixture was made.
      const { status, json } = await again(request);
      expect(json).toMatchObject(status === 201 ? given : { code: 'IDEMPOTENCY_KEY_USED', id: given.id });
      expect(await again({ ...request, name: 'another' })).toMatchObject({ status: 422 });
    }
  });

  it('opens the secret to a repeat in time', async () => {
    const [first] = expected.made;
    if (!first) throw new Error('There is no key');
    const [created] = await eventsAt(place.urlOf('original.db'));
    const again = await withLogAt(place.urlOf('original.db'), (log) =>
      createAiApiKey(
        {
          log,
          keyring: loadConfig({ DATA_DIR: folder.path, ...SETTINGS }).keyring,
          clock: () => Date.parse(created?.recordedAt ?? '') + 1000,
          actor: { issuer: 'keyledger', subject: 'ada' },
          requestId: 'test',
          from: 'test',
          verified: true,
        },
        {
          ...{ repoId: 'shop', expiresAt: null, idempotencyKey: first.idempotencyKey },
          ...(first.request as { name: string; aiType: 'OPENAI' }),
        },
      ),
    );
    const { id, key, secret } = first.given;
    expect(again).toMatchObject({ id, key, secret });
  });

  it('takes new commands on its keys', async () => {
    for (const { path, given } of expected.made) {
      const changed = await service.ask('PUT', path, {
        token: admin,
        body: { name: 'renamed by a later release' },
      });
      const isDeleted = !JSON.stringify(expected.lists[path.slice(0, path.lastIndexOf('/'))]).includes(given.id);
      expect(changed.status).toBe(isDeleted ? 404 : 200);
      if (isDeleted) continue;
      const rotated = await service.ask('POST', `${path}/rotate`, { token: admin, body: {} });
      expect([200, 409]).toContain(rotated.status);
      expect((await service.ask('DELETE', path, { token: admin })).status).toBe(200);
    }
    const path = expected.made[0]?.path.replace(/\/[^/]+$/, '') ?? '';
    expect((await service.ask('GET', path, { token: admin })).json).toMatchObject({ apiKeys: [] });
  });

  (hasExport ? it : it.skip)('its export makes a log that answers the same', async () => {
    const copy = temporaryFolder();
    const file = join(copy.path, 'keyledger.db');
    const { code, stderr } = place.run('copy.db', ['import', at('export.ndjson')]);
    expect([code, stderr]).toEqual([0, '']);
    copyFileSync(place.at('copy.db'), file);
    const child = await spawnService(copy.path, SETTINGS);
    await expectAnswers(child);
    await child.end('SIGKILL');
    copy.remove();
  });

  it('is exported and imported by this release', async () => {
    expect(place.run('original.db', ['export', '--output', place.at('again.ndjson')]).code).toBe(0);
    expect(place.run('again.db', ['import', place.at('again.ndjson')]).code).toBe(0);
    const ids = async (name: string) => (await eventsAt(place.urlOf(name))).map(({ id }) => id);
    expect(await ids('again.db')).toEqual(await ids('original.db'));
  });
});
