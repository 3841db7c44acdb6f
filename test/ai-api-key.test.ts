import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type AiApiKey, type ApiKeyState, apiKeyStream, evolveApiKey } from '../src/domain/ai-api-key.js';
import { IDEMPOTENCY_WINDOW_MS } from '../src/domain/idempotency.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import {
  apiKeyId,
  at,
  create,
  created,
  deleted,
  type Event,
  fold,
  given,
  msLater,
  remove,
  renamed,
  T0,
  unreadable,
  update,
} from './support/fixtures/given-api-key.js';

const rename = (name?: string) => update(name === undefined ? {} : { name });

describe('creating', () => {
  it('starts the stream', () => given().when(create).thenEvents(created));

  it('repeated with the same request decides nothing, so that the first answer can be given again', () =>
    given(created)
      .when({ ...create, accessKey: 'FB_AI_other' })
      .thenEvents());

  it('repeated still finds the key after a rename', () => given(created, renamed('x')).when(create).thenEvents());

  it('repeated at the end of the window decides nothing', () =>
    given(created).when(create, msLater(IDEMPOTENCY_WINDOW_MS)).thenEvents());

  it('repeated after the window is refused with the id', () =>
    given(created)
      .when(create, msLater(IDEMPOTENCY_WINDOW_MS + 1))
      .thenError('IDEMPOTENCY_KEY_USED', { id: apiKeyId }));

  it('repeated while the clock is set back further than the window is refused with the id', () =>
    given(created)
      .when(create, msLater(-IDEMPOTENCY_WINDOW_MS - 1))
      .thenError('IDEMPOTENCY_KEY_USED', { id: apiKeyId }));

  it('repeated after deletion is refused with the id', () =>
    given(created, deleted).when(create).thenError('IDEMPOTENCY_KEY_USED', { id: apiKeyId }));

  it('repeated with another request is refused, however late', () => {
    const other = { ...create, idempotency: { keyHash: 'k', requestHash: 'another' } };
    given(created).when(other).thenError('IDEMPOTENCY_KEY_REUSED');
    given(created, deleted)
      .when(other, msLater(IDEMPOTENCY_WINDOW_MS * 9))
      .thenError('IDEMPOTENCY_KEY_REUSED');
  });

  it('without an idempotency key never answers from a key that is there', () =>
    given(created)
      .when({ ...create, idempotency: undefined })
      .thenError('CONFLICT'));

  it('is refused over a history that cannot be read', () =>
    given(unreadable).when(create).thenError('KEY_QUARANTINED', { id: apiKeyId }));
});

describe('renaming', () => {
  it('changes the name', () => given(created).when(rename('find')).thenEvents(renamed('find')));
  it('to the same name decides nothing', () => given(created).when(rename('search')).thenEvents());
  it('back to an earlier name is a change', () =>
    given(created, renamed('find')).when(rename('search')).thenEvents(renamed('search')));
  it('without a name decides nothing', () => given(created).when(rename()).thenEvents());
  it('a key that never was is refused', () => given().when(rename('find')).thenError('KEY_NOT_FOUND'));
  it('a deleted key is refused', () => given(created, deleted).when(rename('find')).thenError('KEY_NOT_FOUND'));
  it('a key of another repository is refused', () =>
    given(created)
      .when({ ...rename('find'), repoId: 'other' })
      .thenError('KEY_NOT_FOUND'));
  it('a quarantined key is refused', () =>
    given(created, unreadable).when(rename('find')).thenError('KEY_QUARANTINED', { id: apiKeyId }));
});

describe('deleting', () => {
  it('ends the key', () => given(created).when(remove).thenEvents(deleted));
  it('a key that never was is refused', () => given().when(remove).thenError('KEY_NOT_FOUND'));
  it('twice is refused', () => given(created, deleted).when(remove).thenError('KEY_NOT_FOUND'));
  it('a key of another repository is refused', () =>
    given(created)
      .when({ ...remove, repoId: 'other' })
      .thenError('KEY_NOT_FOUND'));
  it('works on a quarantined key', () => given(created, unreadable).when(remove).thenEvents(deleted));
  it('works on a key whose creation cannot be read, if the repository can', () =>
    given(unreadable).when(remove).thenEvents(deleted));
  it('is refused if not even the repository can be read', () =>
    given({ ...unreadable, data: { apiKeyId } })
      .when(remove)
      .thenError('KEY_NOT_FOUND'));
});

describe('the fold', () => {
  it('of a creation holds what was created', () => {
    const { sealedSecret, name } = evolveApiKey(undefined, at(created, msLater(5)));
    expect({ sealedSecret, name }).toEqual({ sealedSecret: 'sealed 1', name: 'search' });
    expect(evolveApiKey(undefined, at(created, msLater(5)))).toMatchObject({
      status: 'active',
      createdAt: msLater(5),
      deletedAt: null,
    });
  });

  it('fails closed at an event that makes no sense', () => {
    for (const odd of [
      unreadable,
      created,
      { ...renamed('x'), data: { apiKeyId, repoId: 'other', name: 'x' } } as Event,
    ]) {
      expect(fold([created, odd])).toMatchObject({ status: 'unavailable', name: 'search' });
    }
    expect(fold([renamed('x')])).toMatchObject({ status: 'unavailable' });
  });

  it('holds later events back during a quarantine, but not a deletion', () => {
    expect(fold([created, unreadable, renamed('x')])).toMatchObject({
      status: 'unavailable',
      name: 'search',
    });
    expect(fold([created, unreadable, deleted])).toMatchObject({ status: 'deleted', deletedAt: T0 });
  });

  const anyEvent: fc.Arbitrary<Event> = fc.oneof(
    fc.constant(created),
    fc.string().map(renamed),
    fc.constant(deleted),
    fc.constant(unreadable),
    fc.string().map((other): Event => ({ ...deleted, data: { ...deleted.data, repoId: other } }) as Event),
  );

  it('never throws, and after a deletion nothing brings a key back', () => {
    fc.assert(
      fc.property(fc.array(anyEvent), fc.array(anyEvent), (before, later) => {
        const dead = fold([created, ...before, deleted]) as AiApiKey;
        expect(dead.status).toBe('deleted');
        expect(later.reduce<ApiKeyState>((state, event) => evolveApiKey(state, at(event)), dead)).toEqual(dead);
      }),
    );
  });

  it('never makes an unavailable key active again', () => {
    fc.assert(
      fc.property(fc.array(anyEvent), (later) => {
        expect(fold([created, unreadable, ...later])?.status).not.toBe('active');
      }),
    );
  });
});

describe('the stream', () => {
  it('names the key', () => expect(apiKeyIdOf(apiKeyStream(apiKeyId))).toBe(apiKeyId));
  it('that names no key belongs to none', () => {
    for (const stream of [
      'aiApiKey-',
      'aiApiKey-x',
      apiKeyId,
      `other-${apiKeyId}`,
      `aiApiKey-${apiKeyId.toUpperCase()}`,
    ]) {
      expect(apiKeyIdOf(stream)).toBeUndefined();
    }
  });
});
