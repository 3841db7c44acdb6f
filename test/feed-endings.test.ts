import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mintToken } from '../src/security/tokens.js';
import { eventually } from './support/assertions/eventually.js';
import { askForPage, readStream } from './support/http/event-stream.js';
import { combinations } from './support/servers/combinations.js';
import { type Running, runService } from './support/servers/service.js';

describe.each(combinations)('the feed on $name', ({ start }) => {
  let settings: NodeJS.ProcessEnv;
  let service: Running;
  let stopParts: () => Promise<void>;
  let repoId: string;
  let admin: string;
  beforeAll(async () => {
    const parts = await start();
    settings = { RATE_LIMIT: '0', ...parts.settings };
    stopParts = parts.stop;
    service = await runService(settings);
    repoId = randomUUID();
    admin = await service.token('admin', repoId);
  }, 120_000);
  afterAll(async () => {
    await service?.stop();
    await stopParts?.();
  });
  const now = async () => (await askForPage(`${service.url}/events`, admin)).json['next'] as string;

  describe('refuses', () => {
    /** As a stream and as a page. */
    const expectRefused = async (query: string, token: string | undefined, status: number, code: string) => {
      for (const accept of ['text/event-stream', 'application/json']) {
        const ask = { ...(token === undefined ? {} : { token }), headers: { accept } };
        const answer = await service.ask('GET', `/events${query}`, ask);
        expect([answer.status, answer.json]).toEqual([status, expect.objectContaining({ code })]);
      }
    };

    it.each([
      '?after=x',
      '?after=',
      '?repo=..',
      '?type=Nonsense',
      '?type=',
      '?type=ApiKeyCreated,',
      '?limit=0',
      '?limit=1001',
    ])('what it cannot read: %s', (query) => expectRefused(query, admin, 400, 'INVALID_INPUT'));

    it('a Last-Event-ID that is none, whatever the query says', async () => {
      const headers = { 'last-event-id': 'x' };
      const answer = await service.ask('GET', '/events?after=start', { token: admin, headers });
      expect([answer.status, answer.json['code']]).toEqual([400, 'INVALID_INPUT']);
    });

    it('a limit of a stream, which has none', async () => {
      const answer = await service.ask('GET', '/events?limit=5', { token: admin });
      expect([answer.status, answer.json['code']]).toEqual([400, 'INVALID_INPUT']);
      expect(answer.json['message']).toMatch(/application\/json/);
    });

    it('who does not say who it is', async () => {
      await expectRefused('', undefined, 401, 'UNAUTHENTICATED');
      await expectRefused('', `${admin}x`, 401, 'UNAUTHENTICATED');
    });

    it.each(['viewer', 'verifier', 'replica', 'nobody'])('a %s', async (role) =>
      expectRefused('', await service.token(role, '*'), 403, 'FORBIDDEN'),
    );

    it('who asks for a repository that it may not follow', () =>
      expectRefused(`?repo=${randomUUID()}`, admin, 403, 'FORBIDDEN'));

    it('another method', async () => {
      for (const method of ['POST', 'PUT', 'DELETE']) {
        const answer = await service.ask(method, '/events', { token: admin });
        expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET']);
      }
    });

    it('a position of another log, and one that this log has not reached', async () => {
      const [logId, place = ''] = (await now()).replace(/\..*/, '').split(':');
      await expectRefused(`?after=${randomUUID()}:${place}`, admin, 409, 'OTHER_LOG');
      const beyond = `${logId}:${'f'.repeat(place.length)}`;
      await expectRefused(`?after=${beyond}`, admin, 409, 'OTHER_LOG');
    });
  });

  it('ends when the token expires, and says so', async () => {
    const { tokens, JWT_REPOS_CLAIM: claim } = service.config;
    if (tokens.key instanceof URL) throw new Error('This service does not mint tokens');
    const who = { subject: 'ada', grants: { [repoId]: 'auditor' }, claim, ttlSeconds: 3 };
    const token = await mintToken({ ...tokens, key: tokens.key }, who, Date.now());
    const { messages, ended } = await readStream(`${service.url}/events`, token);
    await ended;
    expect(messages.at(-1)?.event).toBe('end');
    expect(messages.at(-1)?.data).toEqual({
      code: 'UNAUTHENTICATED',
      message: expect.stringMatching(/expired/),
    });
  });

  it('ends at once, and says so, when the service stops', async () => {
    const other = await runService(settings);
    const token = await other.token('admin', repoId);
    const readers = await Promise.all([1, 2, 3].map(() => readStream(`${other.url}/events`, token)));
    await eventually(() => readers.every(({ messages }) => messages.length > 0));
    await other.stop();
    for (const { messages, ended } of readers) {
      await ended;
      expect(messages.at(-1)?.event).toBe('end');
      expect(messages.at(-1)?.data).toMatchObject({ code: 'UNAVAILABLE' });
    }
  });
});
