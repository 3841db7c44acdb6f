import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { v4 as uuid } from 'uuid';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import { hashOf } from '../src/security/credentials.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { checkChanges } from '../torture/checks/changes.js';
import { checkFeed } from '../torture/checks/feed.js';
import { checkIdempotency } from '../torture/checks/idempotency.js';
import { checkAnswers, checkDeaths, checkHangs } from '../torture/checks/limits.js';
import { livesIn } from '../torture/checks/lives.js';
import { checkReads } from '../torture/checks/reads.js';
import { checkOutputs } from '../torture/checks/secrets.js';
import { UNREADABLE } from '../torture/faults.js';
import { GUARDS } from '../torture/guards.js';
import type { Answer, Call, Era, Reading } from '../torture/history.js';
import { FAULTS, type FaultKind, scheduleOf } from '../torture/schedule.js';

/** The torture's checks on a made-up history: given a log and calls, then the violations. */

const keyring = new Keyring(makeMasterKey('k1'));
const id = '0b7f3c1e-6f0a-4c57-9d3a-2f1f8f3d9a10';
const key = 'FB_AI_key';
const positionOf = (place: number) => `log:${String(place).padStart(4, '0')}` as Position;

/** Log of one key: its creation, and the events that these calls caused. */
function logOf(...causes: readonly (readonly [requestId: string, type: string, data?: object])[]): RecordedEvent[] {
  return causes.map(([requestId, type, data], place) => ({
    id: uuid(),
    stream: `aiApiKey-${id}`,
    revision: place,
    position: positionOf(place),
    type,
    data: { apiKeyId: id, repoId: 'shop', ...data },
    metadata: { requestId },
    recordedAt: '2026-01-01T00:00:00.000Z',
  }));
}
const secretOf = (secret: string, secretVersion: number) => ({
  secretVersion,
  secretHash: hashOf(secret),
  sealedSecret: keyring.seal(secret, { apiKeyId: id, secretVersion }),
});
const creation = ['c', 'ApiKeyCreated', { name: 'a', accessKey: key, ...secretOf('one', 1) }] as const;
const renaming = (requestId: string, name: string) => [requestId, 'ApiKeyRenamed', { name }] as const;

type CallFields = Partial<Call> & Pick<Call, 'id' | 'kind'>;

/** Sequential calls, each a second long unless it states otherwise. */
const callsOf = (...fields: readonly CallFields[]): Call[] =>
  fields.map((one, number) => ({
    repoId: 'shop',
    instance: 0,
    startedAt: number * 2000,
    endedAt: number * 2000 + 1000,
    answer: undefined,
    ...(one.kind === 'create' || one.kind === 'list' ? {} : { apiKeyId: id }),
    ...one,
  }));
const ok = (place: number, body: Answer['body'] = {}, status = 200): { answer: Answer } => ({
  answer: { status, position: positionOf(place), body },
});
const refused = (status: number, code: string): { answer: Answer } => ({
  answer: { status, code, body: {} },
});
const created: CallFields = {
  id: 'c',
  kind: 'create',
  idempotencyKey: 'i',
  ...ok(0, { id, key, secret: 'one' }, 201),
};
const eraOf = (events: RecordedEvent[], calls: readonly CallFields[], readings: Reading[] = []): Era => ({
  events,
  calls: callsOf(...calls),
  readings,
  restored: 0,
});

describe('changes', () => {
  const check = (events: RecordedEvent[], ...calls: CallFields[]) =>
    checkChanges(eraOf(events, calls), livesIn(events));
  const renamed = (name: string, place: number): CallFields => ({
    id: `rename ${name}`,
    kind: 'rename',
    name,
    ...ok(place),
  });
  const log = logOf(creation, renaming('rename b', 'b'), ['d', 'ApiKeyDeleted']);
  const deleted: CallFields = { id: 'd', kind: 'delete', ...ok(2) };

  it('in the order of the log, each answered as it was, are right', () => {
    expect(
      check(log, created, renamed('b', 1), { ...renamed('b', 1), id: 'again' }, deleted, {
        id: 'late',
        kind: 'rename',
        name: 'x',
        ...refused(404, 'KEY_NOT_FOUND'),
      }),
    ).toEqual([]);
  });

  it('that the service has not taken in time are not there', () => {
    const late: CallFields = { ...renamed('z', 0), ...refused(408, 'TIMEOUT') };
    expect(check(log, created, late, renamed('b', 1), deleted)).toEqual([]);
    const there = logOf(creation, renaming('rename z', 'z'));
    expect(check(there, created, late).join()).toMatch(/answered 408 TIMEOUT: and yet it is in the log/);
  });

  it('that got no answer may be there or not', () => {
    const unknown: CallFields = { id: 'lost', kind: 'rename', name: 'z' };
    expect(check(log, created, unknown, renamed('b', 1), deleted)).toEqual([]);
    const there = logOf(creation, renaming('lost', 'z'), renaming('rename b', 'b'), ['d', 'ApiKeyDeleted']);
    expect(check(there, created, unknown, renamed('b', 2), { ...deleted, ...ok(3) })).toEqual([]);
  });

  it.each<[why: string, events: RecordedEvent[], calls: CallFields[], says: RegExp]>([
    [
      'that were answered and are not in the log',
      logOf(creation),
      [created, renamed('b', 1)],
      /rename b\) answered 200 , and nothing in the log/,
    ],
    [
      'that were refused and are in the log',
      log,
      [created, { ...renamed('b', 1), ...refused(503, 'UNAVAILABLE') }, deleted],
      /answered 503 UNAVAILABLE: and yet it is in the log/,
    ],
    [
      'in another order than they were answered in',
      logOf(creation, renaming('rename x', 'x'), renaming('rename b', 'b')),
      [created, renamed('b', 2), renamed('x', 1)],
      /rename x\) answered 200 {2}and has revision 1, but 2 had been seen/,
    ],
    [
      'that are half there',
      logOf(creation, renaming('rename b', 'c')),
      [created, renamed('b', 1)],
      /the event names it c/,
    ],
    [
      'of a key that had been deleted',
      logOf(creation, ['d', 'ApiKeyDeleted'], renaming('rename b', 'b')),
      [created, { ...deleted, ...ok(1) }, renamed('b', 2)],
      /the key was deleted before/,
    ],
    ['that nobody asked for', log, [created, deleted], /nobody asked for ApiKeyRenamed/],
    [
      'that one call made twice',
      logOf(creation, renaming('rename b', 'b'), renaming('rename b', 'b')),
      [created, renamed('b', 2)],
      /rename b caused more than one event/,
    ],
    [
      'of a key that is said not to be there, and is',
      logOf(creation),
      [created, { id: 'd', kind: 'delete', ...refused(404, 'KEY_NOT_FOUND') }],
      /d\) answered 404 KEY_NOT_FOUND, and nothing in the log/,
    ],
    [
      'that are said to be elsewhere in the log',
      logOf(creation, renaming('rename b', 'b')),
      [created, renamed('b', 0)],
      /the event is at log:0001, the answer says log:0000/,
    ],
  ])('%s, are not', (_, events, calls, says) => {
    expect(check(events, ...calls).join('\n')).toMatch(says);
  });
});

describe('an Idempotency-Key', () => {
  const check = (events: RecordedEvent[], ...calls: CallFields[]) =>
    checkIdempotency(eraOf(events, calls), livesIn(events), keyring);
  const again: CallFields = { ...created, id: 'again' };

  it('gives the same answer each time', () => {
    expect(check(logOf(creation), created, again)).toEqual([]);
  });

  it.each<[why: string, events: RecordedEvent[], calls: CallFields[], says: RegExp]>([
    ['makes two events', logOf(creation, ['again', 'ApiKeyCreated', creation[2]]), [created, again], /i: 2 events/],
    [
      'gives two answers',
      logOf(creation),
      [created, { ...again, ...ok(0, { id, key, secret: 'two' }, 201) }],
      /i: 2 different answers/,
    ],
    [
      'gives a secret that is not in the log',
      logOf(creation),
      [{ ...created, ...ok(0, { id, key, secret: 'two' }, 201) }],
      /not that of the log.*opens to another/s,
    ],
    [
      'has a secret that does not open',
      logOf([
        'c',
        'ApiKeyCreated',
        { ...creation[2], sealedSecret: keyring.seal('x', { apiKeyId: id, secretVersion: 1 }) },
      ]),
      [created],
      /opens to another/,
    ],
  ])('that %s is found', (_, events, calls, says) => {
    expect(check(events, ...calls).join('\n')).toMatch(says);
  });
});

describe('reads', () => {
  const check = (events: RecordedEvent[], ...calls: CallFields[]) => checkReads(eraOf(events, calls), livesIn(events));
  const valid = (place: number, name = 'a', more: Partial<Answer> = {}): CallFields => ({
    id: 'v',
    kind: 'verify',
    key,
    secret: 'one',
    answer: { status: 200, position: positionOf(place), body: { valid: true, apiKey: { name } }, ...more },
  });
  const invalid = (reason: string): CallFields => ({
    id: 'v',
    kind: 'verify',
    key,
    secret: 'one',
    answer: { status: 200, body: { valid: false, reason } },
  });
  const listed = (...apiKeys: object[]): CallFields => ({
    id: 'l',
    kind: 'list',
    answer: { status: 200, body: { apiKeys } },
  });
  const deletion: CallFields = { id: 'd', kind: 'delete', ...ok(1) };
  const deleted = logOf(creation, ['d', 'ApiKeyDeleted']);

  it('of any place that is not too old are right', () => {
    expect(check(deleted, created, deletion, valid(0))).toEqual([]);
    expect(check(deleted, created, deletion, invalid('DELETED'), listed())).toEqual([]);
    expect(check(deleted, created, listed({ id, name: 'a', status: 'active' }))).toEqual([]);
  });

  it.each<[why: string, events: RecordedEvent[], calls: CallFields[], says: RegExp]>([
    [
      'a valid result that covers the revocation',
      deleted,
      [created, deletion, valid(1)],
      /valid as of place 1, where the log says DELETED/,
    ],
    [
      'one that was to cover it and does not',
      deleted,
      [created, deletion, { ...valid(0), minPosition: positionOf(1) }],
      /valid as of place 0, but it owed 1/,
    ],
    [
      'one that says that it is fresh and is not',
      deleted,
      [created, deletion, { ...valid(0, 'a', { staleness: 0 }), startedAt: 9000, endedAt: 9001 }],
      /valid as of place 0, but it owed 1/,
    ],
    [
      'one of a key in quarantine',
      logOf(creation, [`${UNREADABLE}x`, 'ApiKeyRenamed']),
      [created, valid(1)],
      /where the log says UNAVAILABLE/,
    ],
    [
      'one of a replaced log',
      logOf(creation),
      [created, valid(7)],
      /valid as of log:0007, which this log does not hold/,
    ],
    [
      'one with a secret that was replaced',
      logOf(creation, ['r', 'ApiKeySecretRotated', { ...secretOf('two', 2), overlapEndsAt: null }]),
      [created, valid(1)],
      /where the log says BAD_SECRET/,
    ],
    [
      'a refusal without a reason in the log',
      logOf(creation),
      [created, invalid('DELETED')],
      /DELETED, as it was at no place/,
    ],
    [
      'a list with a key that never was',
      logOf(creation),
      [created, listed({ id, name: 'a', status: 'active' }, { id: 'x' })],
      /it shows x, which the log does not hold/,
    ],
    [
      'a list with a name that never was',
      logOf(creation),
      [created, listed({ id, name: 'b', status: 'active' })],
      /is shown as active and b, as it was at no place/,
    ],
    [
      'a list that lacks what it was to hold',
      logOf(creation),
      [created, { ...listed(), minPosition: positionOf(0) }],
      /is not shown, as it was at no place/,
    ],
  ])('are not: %s', (_, events, calls, says) => {
    expect(check(events, ...calls).join('\n')).toMatch(says);
  });

  it('are not: a list of two places at once', () => {
    const other = '1b7f3c1e-6f0a-4c57-9d3a-2f1f8f3d9a10';
    const both = logOf(creation, renaming('r', 'b'), ['o', 'ApiKeyCreated', { name: 'o', apiKeyId: other }]);
    const [one, two, three] = both as [RecordedEvent, RecordedEvent, RecordedEvent];
    const events = [one, two, { ...three, stream: `aiApiKey-${other}`, revision: 0 }];
    const half = listed({ id, name: 'a', status: 'active' }, { id: other, name: 'o', status: 'active' });
    expect(check(events, created, half).join('\n')).toMatch(/at no place of the log within/);
  });
});

describe('a reader of the feed', () => {
  const events = logOf(creation, renaming('r', 'b'), ['d', 'ApiKeyDeleted']);
  const resumeToken = ({ position, id: eventId }: RecordedEvent) => `${position}.${eventId.slice(0, 8)}`;
  const heard = (...places: number[]) =>
    places.map((place) => ({ id: (events[place] as RecordedEvent).id, position: positionOf(place) }));
  const reading = (more: Partial<Reading>): Reading => ({
    reader: 'r',
    after: undefined,
    events: [],
    error: undefined,
    ...more,
  });
  const check = (...readings: Reading[]) => checkFeed(eraOf(events, [], readings), true);

  it('who hears all, in whatever pieces, is content', () => {
    const after = resumeToken(events[0] as RecordedEvent);
    expect(check(reading({ events: heard(0) }), reading({ after, events: heard(1, 2) }))).toEqual([]);
    expect(check(reading({ after: 'gone', error: 'OTHER_LOG' }), reading({ events: heard(0, 1, 2) }))).toEqual([]);
  });

  it.each<[why: string, reading: Partial<Reading>, says: RegExp]>([
    ['hears one twice', { events: heard(0, 0, 1, 2) }, /instead of place 1/],
    ['misses one', { events: heard(0, 2) }, /place 2, instead of place 1/],
    ['hears them in disorder', { events: heard(1, 0, 2) }, /place 1, instead of place 0/],
    ['does not hear the end', { events: heard(0, 1) }, /did not hear of the last 1 events/],
    ['goes on behind what is gone', { after: 'gone', events: heard(2) }, /the event that it was at is gone/],
    [
      'is refused though nothing is gone',
      { after: resumeToken(events[1] as RecordedEvent), error: 'OTHER_LOG' },
      /refused, though the log holds/,
    ],
    ['is refused for something else', { error: 'FORBIDDEN' }, /refused with FORBIDDEN/],
  ])('who %s is not', (_, more, says) => {
    expect(check(reading(more)).join('\n')).toMatch(says);
  });
});

describe('answers', () => {
  const call = callsOf({ id: 'x', kind: 'get', startedAt: 0, endedAt: 12_500, ...ok(0) });
  const stopped = { kind: 'service stopped' as const, instance: 0 as const, from: 1000, to: 5000 };

  it('hang if they take longer than anything may, but for as long as nobody could have given them', () => {
    expect(checkHangs(call, []).join()).toMatch(/get \(x\) took 12500 ms/);
    expect(checkHangs(call, [stopped])).toEqual([]);
    expect(checkHangs(call, [{ ...stopped, instance: 1 }])).toHaveLength(1);
    expect(checkHangs(call, [{ ...stopped, kind: 'Redis stopped' }])).toHaveLength(1);
  });

  it('that nobody should see are found', () => {
    const answers = [
      refused(500, 'INTERNAL'),
      refused(400, 'INVALID_INPUT'),
      refused(503, 'BEHIND'),
      refused(408, 'TIMEOUT'),
    ];
    const calls = callsOf(...answers.map((answer) => ({ id: 'x', kind: 'get' as const, ...answer })));
    expect(checkAnswers(calls)).toHaveLength(2);
  });

  it('with a secret in them stay what they are: no output has one', () => {
    const secret = `secret_${'a'.repeat(43)}`;
    expect(checkOutputs({ log: `{"body":"${secret}"}`, metrics: 'secret_of_nothing' })).toEqual([
      'log holds secret_aaaaa…',
    ]);
  });
});

describe('a service that ends by itself', () => {
  const death = {
    instance: 0 as const,
    startedAt: 0,
    at: 10_000,
    served: true,
    how: 'exit 70',
    lastWords: '',
  };

  it('may do so where its log failed it, or before it served without one', () => {
    const failed = { kind: 'fsync fails' as const, instance: 0 as const, from: 9000, to: 11_000 };
    expect(checkDeaths([death], [failed])).toEqual([]);
    expect(checkDeaths([{ ...death, how: 'exit 1' }], [failed])).toHaveLength(1);
    expect(checkDeaths([{ ...death, how: 'exit 1', served: false }], [failed])).toEqual([]);
    expect(checkDeaths([death], [])).toHaveLength(1);
  });
});

describe('a schedule of faults', () => {
  const kinds = Object.keys(FAULTS) as FaultKind[];

  it('is the same for the same seed, and another for another', () => {
    expect(scheduleOf(1, 10, kinds)).toEqual(scheduleOf(1, 10, kinds));
    expect(scheduleOf(1, 10, kinds)).not.toEqual(scheduleOf(2, 10, kinds));
  });

  it('has every kind in every round, in order of time, and ends in time', () => {
    const faults = scheduleOf(7, 10, kinds);
    const rounds = Math.floor(faults.length / kinds.length);
    expect(rounds).toBeGreaterThan(3);
    for (let round = 0; round < rounds; round++) {
      const inRound = faults.slice(round * kinds.length, (round + 1) * kinds.length);
      expect(new Set(inRound.map(({ kind }) => kind)).size).toBe(kinds.length);
    }
    expect(faults).toEqual([...faults].sort((a, b) => a.atMs - b.atMs));
    for (const { atMs, forMs } of faults) expect(atMs + forMs).toBeLessThanOrEqual(600_000);
  });
});

describe('the guards that can be taken out', () => {
  it.each(GUARDS.map((guard) => [guard.guard, guard] as const))('%s stands once in its file', (_, { file, text }) => {
    expect(readFileSync(`dist/src/${file}`, 'utf8').split(text)).toHaveLength(2);
  });
});
