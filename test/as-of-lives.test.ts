import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type KeyAsOf, keyAsOf, listAsOf, repositoryAsOf } from '../src/audit/as-of.js';
import { couldUse } from '../src/audit/could-use.js';
import { type PointInTime, parsePointInTime } from '../src/audit/point-in-time.js';
import { statusAt } from '../src/domain/ai-api-key.js';
import type { EventStore, RecordedEvent } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import { toListItem } from '../src/projections/list-item.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { KeyFold } from './support/models/key-fold.js';
import { Life, step } from './support/models/life.js';
import type { ModelKey } from './support/models/lifecycle.js';

/** State of a key in the model, valid since a time. */
type StateSince = Pick<ModelKey, 'name' | 'expiresAt' | 'suspended' | 'deleted'> & { readonly since: number };

const timeOf = ({ metadata }: RecordedEvent) => Date.parse((metadata as { occurredAt: string }).occurredAt);

/** Every key of a repository, as each of the three queries returns it. */
async function asOf(log: EventStore, index: KeyFold, repoId: string, pointInTime: PointInTime) {
  const whole = await repositoryAsOf(log, repoId, pointInTime);
  const one = await Promise.all(whole.map(({ apiKeyId }) => keyAsOf(log, apiKeyId, pointInTime)));
  const paged: KeyAsOf[] = [];
  for (let after: Position | undefined; ; ) {
    const query = { includeDeleted: true, limit: 2, after };
    const page = await listAsOf(log, index.keysOf(repoId, after), pointInTime, query);
    paged.push(...page.items);
    if (page.next === null) break;
    after = page.next;
  }
  expect(one).toEqual(whole);
  expect(paged).toEqual(whole);
  return whole;
}

async function checkPositions(log: EventStore, events: readonly RecordedEvent[], all: KeyFold) {
  const prefix = new KeyFold();
  const lastEvents = new Map<string, string>();
  for (const recorded of events) {
    if (apiKeyIdOf(recorded.stream) !== undefined) prefix.apply(recorded);
    lastEvents.set(recorded.position, recorded.id);
    const pointInTime = await parsePointInTime(recorded.position, log, Date.now());
    expect(pointInTime).toEqual({ time: timeOf(recorded), position: recorded.position });
    for (const repoId of new Set([...all.entries()].map(({ key }) => key.repoId))) {
      const expected = [...prefix.entries()].filter(({ key }) => key.repoId === repoId).map(toListItem);
      const withIds = expected.map((item) => ({ ...item, eventId: lastEvents.get(item.position) }));
      expect(await asOf(log, all, repoId, pointInTime)).toEqual(withIds.reverse());
    }
  }
}

async function checkTimes(log: EventStore, events: readonly RecordedEvent[], life: Life, was: Lives) {
  const changes = [...was.values()].flat();
  const turns = changes.flatMap(({ since, expiresAt }) => [since, expiresAt]).filter(Number.isFinite);
  for (const time of new Set(turns.flatMap((turn) => [turn - 1, turn]))) {
    const pointInTime = { time };
    const then = new KeyFold();
    for (const event of events) if (apiKeyIdOf(event.stream) !== undefined && timeOf(event) <= time) then.apply(event);
    for (const [key, states] of was) {
      const expected = states.findLast(({ since }) => since <= time);
      const found = await keyAsOf(log, key.answer.id, pointInTime);
      const status = found && statusAt(found, time);
      expect([found?.name, status]).toEqual([expected?.name, expected && statusOf(expected, time)]);

      const answer = await couldUse(log, key.answer.key, pointInTime);
      expect(answer).toMatchObject({
        couldUse: life.secrets.some(
          (secret) => then.verify({ accessKey: key.answer.key, secret, canSee: () => true }, time).valid,
        ),
        status: status ?? 'not created',
        apiKeyId: key.answer.id,
        repoId: key.repoId,
      });
      await checkDecision(log, key, time, answer.event?.position, answer.status);
    }
    for (const repoId of new Set(life.model.keys.map((key) => key.repoId)))
      await asOf(log, life.index, repoId, pointInTime);
  }
}

/** Asserts that the deciding event changes the status, and that no later event does. */
async function checkDecision(
  log: EventStore,
  { answer }: ModelKey,
  time: number,
  position: Position | undefined,
  status: string,
) {
  const stream: RecordedEvent[] = [];
  for await (const event of log.readStream(`aiApiKey-${answer.id}`)) stream.push(event);
  const at = stream.findIndex((event) => event.position === position);
  if (status === 'not created') return expect(at).toBe(0);
  const counted = stream.filter((event) => timeOf(event) <= time);
  const states = await Promise.all(
    counted.map(async (event) => keyAsOf(log, answer.id, { time, position: event.position })),
  );
  const statuses = states.map((key) => (key && status === 'expired' ? key.expiresAt : key && statusAt(key, time)));
  expect(counted[at]?.position).toBe(position);
  expect(new Set(statuses.slice(at)).size).toBe(1);
  expect(statuses[at - 1]).not.toBe(statuses[at]);
}

const statusOf = ({ deleted, suspended, expiresAt }: StateSince, time: number): string =>
  deleted ? 'deleted' : suspended ? 'suspended' : expiresAt <= time ? 'expired' : 'active';

type Lives = Map<ModelKey, StateSince[]>;

function note(lives: Lives, keys: readonly ModelKey[]): void {
  for (const key of keys) {
    const { name, expiresAt, suspended, deleted, lastAt } = key;
    const states = lives.get(key) ?? [];
    const [before] = states.slice(-1);
    const now = { name, expiresAt, suspended, deleted, since: lastAt };
    if (JSON.stringify({ ...before, since: 0 }) !== JSON.stringify({ ...now, since: 0 })) states.push(now);
    lives.set(key, states);
  }
}

it('at each position they are the fold of what the log held there, and at each time what the model said', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const folder = temporaryFolder();
      const log = await openSqliteLog(join(folder.path, 'log.db'), (error) => {
        throw error;
      });
      try {
        const life = new Life(log, await log.end());
        const lives: Lives = new Map();
        for (const one of steps) {
          await life.execute(one);
          note(lives, life.model.keys);
        }
        const events: RecordedEvent[] = [];
        for await (const event of log.readAll()) events.push(event);
        await checkPositions(log, events, life.index);
        await checkTimes(log, events, life, lives);
      } finally {
        await log.close();
        folder.remove();
      }
    }),
    { numRuns: 40 },
  );
}, 120_000);
