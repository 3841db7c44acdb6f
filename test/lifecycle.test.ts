import { describe, expect, it } from '@jest/globals';
import { secretHashesAt, statusAt } from '../src/domain/ai-api-key.js';
import { IDEMPOTENCY_WINDOW_MS } from '../src/domain/idempotency.js';
import {
  apiKeyId,
  create,
  created,
  createdUntil,
  deleted,
  expiring,
  fold,
  given,
  leaked,
  msLater,
  remove,
  resume,
  resumed,
  revoke,
  rotate,
  rotated,
  suspend,
  suspended,
  T0,
  unreadable,
  update,
} from './support/fixtures/given-api-key.js';

const HOUR_MS = 3_600_000;
const time = Date.parse;
const used = { id: apiKeyId };

describe('rotating', () => {
  it('gives the key a new secret, and the old one ends at once', () =>
    given(created).when(rotate(2)).thenEvents(rotated(2)));
  it('with an overlap says when the old secret ends', () =>
    given(created)
      .when(rotate(2, 3600))
      .thenEvents(rotated(2, msLater(HOUR_MS))));

  const isValidAt = (ms: number, ...events: Parameters<typeof fold>[0]) => {
    const key = fold([created, ...events]);
    return key && secretHashesAt(key, time(msLater(ms)));
  };
  it('leaves one valid secret without an overlap', () => expect(isValidAt(-HOUR_MS, rotated(2))).toEqual(['hash 2']));
  it('leaves two valid secrets until the overlap ends', () => {
    const once = rotated(2, msLater(HOUR_MS));
    expect(isValidAt(HOUR_MS - 1, once)).toEqual(['hash 2', 'hash 1']);
    expect(isValidAt(HOUR_MS, once)).toEqual(['hash 2']);
  });
  it('a second time ends the first overlap', () => {
    const [once, twice] = [rotated(2, msLater(HOUR_MS)), rotated(3, msLater(HOUR_MS))];
    expect(isValidAt(1, once, twice)).toEqual(['hash 3', 'hash 2']);
    expect(isValidAt(1, once, rotated(3))).toEqual(['hash 3']);
  });

  const mine = { keyHash: 'mine', requestHash: 'overlap 0' };
  it('repeated decides nothing, so that the first answer can be given again', () =>
    given(created, rotated(2, null, mine))
      .when(rotate(3, 0, 'mine'), msLater(IDEMPOTENCY_WINDOW_MS))
      .thenEvents());
  it('repeated with another overlap is refused', () =>
    given(created, rotated(2, null, mine))
      .when(rotate(3, 60, 'mine'))
      .thenError('IDEMPOTENCY_KEY_REUSED'));
  it('repeated too late is refused, and does not rotate', () =>
    given(created, rotated(2, null, mine))
      .when(rotate(3, 0, 'mine'), msLater(IDEMPOTENCY_WINDOW_MS + 1))
      .thenError('IDEMPOTENCY_KEY_USED', used));
  it('repeated after a later rotation is refused, and does not rotate', () =>
    given(created, rotated(2, null, mine), rotated(3))
      .when(rotate(4, 0, 'mine'))
      .thenError('IDEMPOTENCY_KEY_USED', used));
  it('repeated after a suspension is refused, though the key is resumed', () =>
    given(created, rotated(2, null, mine), suspended, resumed)
      .when(rotate(3, 0, 'mine'))
      .thenError('IDEMPOTENCY_KEY_USED', used));
  it('of a suspended key can be repeated, because it was suspended before', () =>
    given(created, suspended, rotated(2, null, mine))
      .when(rotate(3, 0, 'mine'))
      .thenEvents());
  it('repeated after the key has expired is refused', () =>
    given(createdUntil(msLater(1)), rotated(2, null, mine))
      .when(rotate(3, 0, 'mine'), msLater(1))
      .thenError('IDEMPOTENCY_KEY_USED', used));
  it('of an expired key can be repeated, because it had expired before', () =>
    given(createdUntil(msLater(-1)), rotated(2, null, mine))
      .when(rotate(3, 0, 'mine'))
      .thenEvents());
  it('with another idempotency key rotates again', () =>
    given(created, rotated(2, null, mine))
      .when(rotate(3, 0, 'other'))
      .thenEvents(rotated(3, null, { keyHash: 'other', requestHash: 'overlap 0' })));
  it('ends what a repeated creation could answer', () =>
    given(created, rotated(2)).when(create).thenError('IDEMPOTENCY_KEY_USED', used));
  it('makes no sense out of turn', () =>
    expect(fold([created, rotated(3)])).toMatchObject({ status: 'unavailable', secretHash: 'hash 1' }));
  it('is refused for a deleted key', () => given(created, deleted).when(rotate(2)).thenError('KEY_NOT_FOUND'));
  it('is refused for a quarantined key', () =>
    given(created, unreadable).when(rotate(2)).thenError('KEY_QUARANTINED', used));
});

describe('suspending', () => {
  it('says why', () => given(created).when(suspend).thenEvents(suspended));
  it('twice decides nothing', () => given(created, suspended).when(suspend).thenEvents());
  it('ends with resuming', () => given(created, suspended).when(resume).thenEvents(resumed));
  it('can follow resuming', () => given(created, suspended, resumed).when(suspend).thenEvents(suspended));
  it('resuming what is not suspended decides nothing', () => given(created).when(resume).thenEvents());
  it('leaves a key that can be renamed, rotated and deleted', () => {
    given(created, suspended).when(rotate(2)).thenEvents(rotated(2));
    given(created, suspended).when(remove).thenEvents(deleted);
  });
  it('ends what a repeated creation could answer, for good', () =>
    given(created, suspended, resumed).when(create).thenError('IDEMPOTENCY_KEY_USED', used));
  it.each([
    ['suspending', suspend],
    ['resuming', resume],
  ])('%s a deleted or quarantined key is refused', (_, command) => {
    given(created, deleted).when(command).thenError('KEY_NOT_FOUND');
    given(created, unreadable).when(command).thenError('KEY_QUARANTINED', used);
  });
});

describe('an expiry', () => {
  const soon = msLater(HOUR_MS);
  it('can be moved, and taken away', () => {
    given(created)
      .when(update({ expiresAt: soon }))
      .thenEvents(expiring(soon));
    given(createdUntil(soon))
      .when(update({ expiresAt: null }))
      .thenEvents(expiring(null));
  });
  it('that is so already decides nothing', () => {
    given(createdUntil(soon))
      .when(update({ expiresAt: soon }))
      .thenEvents();
    given(created)
      .when(update({ expiresAt: null }))
      .thenEvents();
  });
  it('can be moved with a new name, in one append', () =>
    given(created)
      .when(update({ name: 'find', expiresAt: soon }))
      .thenEvents({ type: 'ApiKeyRenamed', data: { apiKeyId, repoId: 'shop', name: 'find' } }, expiring(soon)));
  it.each([T0, msLater(-1)])('at %s is refused: it is not in the future', (expiresAt) => {
    given(created).when(update({ expiresAt })).thenError('INVALID_INPUT');
    given()
      .when({ ...create, expiresAt } as typeof create)
      .thenError('INVALID_INPUT');
  });
  it('in the past does not keep a creation from being repeated after it', () =>
    given(createdUntil(msLater(1)))
      .when({ ...create, expiresAt: msLater(1) }, msLater(1))
      .thenError('IDEMPOTENCY_KEY_USED', used));

  const statusOf = (events: Parameters<typeof fold>[0], ms: number) => {
    const key = fold(events);
    return key && statusAt(key, time(msLater(ms)));
  };
  it('ends the key by the clock alone', () => {
    expect(statusOf([createdUntil(soon)], HOUR_MS - 1)).toBe('active');
    expect(statusOf([createdUntil(soon)], HOUR_MS)).toBe('expired');
  });
  it('moved later revives the key', () =>
    expect(statusOf([createdUntil(soon), expiring(msLater(3 * HOUR_MS))], 2 * HOUR_MS)).toBe('active'));
  it('does not hide that a key is suspended, deleted or quarantined', () => {
    expect(statusOf([createdUntil(soon), suspended], 2 * HOUR_MS)).toBe('suspended');
    expect(statusOf([createdUntil(soon), deleted], 2 * HOUR_MS)).toBe('deleted');
    expect(statusOf([createdUntil(soon), unreadable], 2 * HOUR_MS)).toBe('unavailable');
  });
});

describe('revoking a leaked key', () => {
  it('needs its secret, and says that it was leaked', () => given(created).when(revoke('hash 1')).thenEvents(leaked));
  it('with another secret decides nothing', () => given(created).when(revoke('hash 2')).thenEvents());
  it('with the old secret works while that overlaps, and not after', () => {
    const overlapping = [created, rotated(2, msLater(HOUR_MS))];
    given(...overlapping)
      .when(revoke('hash 1'))
      .thenEvents(leaked);
    given(...overlapping)
      .when(revoke('hash 1'), msLater(HOUR_MS))
      .thenEvents();
  });
  it('works on one that is suspended, expired or quarantined', () => {
    for (const odd of [[created, suspended], [createdUntil(msLater(-1))], [created, unreadable]]) {
      given(...odd)
        .when(revoke('hash 1'))
        .thenEvents(leaked);
    }
  });
  it('that is deleted, or never was, decides nothing', () => {
    given(created, deleted).when(revoke('hash 1')).thenEvents();
    given().when(revoke('hash 1')).thenEvents();
    given(unreadable).when(revoke('hash 1')).thenEvents();
  });
});
