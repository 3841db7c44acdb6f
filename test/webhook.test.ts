import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decideWebhook } from '../src/domain/decide-webhook.js';
import { evolveWebhook, signingSecretsAt, type Webhook } from '../src/domain/webhook.js';
import {
  at,
  change,
  changed,
  deleted,
  type Event,
  fold,
  given,
  imported,
  pause,
  paused,
  register,
  registered,
  remove,
  replay,
  replayed,
  resume,
  resumed,
  rotate,
  rotated,
  T0,
  unreadable,
  webhookId,
} from './support/fixtures/given-webhook.js';

const minutesLater = (minutes: number) => new Date(Date.parse(T0) + minutes * 60_000).toISOString();
const ofAnotherRepository = { repoId: 'bank' };
const elsewhere: Event = { type: 'WebhookResumed', data: { webhookId, ...ofAnotherRepository } };
const stateAfter = (...events: Event[]) => fold(events.map((event) => at(event))) as Webhook;

describe('registering', () => {
  it('makes an endpoint that is active', () => {
    given().when(register()).thenEvents(registered);
    expect(stateAfter(registered)).toMatchObject({ status: 'active', secretVersion: 1, createdAt: T0 });
  });

  it('again with the same Idempotency-Key changes nothing for 15 minutes, and is refused later', () => {
    given(registered).when(register(), minutesLater(15)).thenEvents();
    given(registered, changed({ url: 'https://v2.example/' }), paused())
      .when(register())
      .thenEvents();
    const used = ['IDEMPOTENCY_KEY_USED', { id: webhookId }] as const;
    given(registered)
      .when(register(), minutesLater(16))
      .thenError(...used);
    given(registered, rotated(2))
      .when(register())
      .thenError(...used);
    given(registered, deleted)
      .when(register())
      .thenError(...used);
  });

  it('something else with the same Idempotency-Key is refused, and an id that is taken', () => {
    const other = { idempotency: { keyHash: 'k', requestHash: 'another' } };
    given(registered).when(register(other)).thenError('IDEMPOTENCY_KEY_REUSED');
    given(registered)
      .when(register({ idempotency: undefined }))
      .thenError('CONFLICT');
    given({ type: 'WebhookRegistered', data: { ...registered.data, idempotency: undefined } } as Event)
      .when(register())
      .thenError('CONFLICT');
    given(unreadable).when(register()).thenError('WEBHOOK_QUARANTINED', { id: webhookId });
  });
});

describe('changing', () => {
  it('says the whole new target, and nothing where nothing differs', () => {
    const url = 'https://v2.example/';
    given(registered).when(change({ url })).thenEvents(changed({ url }));
    const types = ['ApiKeyCreated'];
    given(registered, changed({ url, types }))
      .when(change({ types: null }))
      .thenEvents(changed({ url }));
    given(registered, changed({ types }))
      .when(change({ types: [...types] }))
      .thenEvents();
    given(registered).when(change({})).thenEvents();
  });
});

describe('rotating the secret', () => {
  it('lets the old one sign until the overlap ends', () => {
    given(registered).when(rotate(2)).thenEvents(rotated(2));
    given(registered)
      .when(rotate(2, 60))
      .thenEvents(rotated(2, minutesLater(1)));
    const overlapping = stateAfter(registered, rotated(2, minutesLater(1)));
    const signing = (time: string) =>
      signingSecretsAt(overlapping, Date.parse(time)).map(({ secretVersion }) => secretVersion);
    expect([signing(T0), signing(minutesLater(1)), signing(minutesLater(2))]).toEqual([[2, 1], [2], [2]]);
    expect(signingSecretsAt(stateAfter(registered, rotated(2)), Date.parse(T0))).toHaveLength(1);
    const twice = stateAfter(registered, rotated(2, minutesLater(9)), rotated(3, minutesLater(9)));
    expect(signingSecretsAt(twice, Date.parse(T0)).map(({ secretHash }) => secretHash)).toEqual(['hash 3', 'hash 2']);
  });

  it('is done once for one Idempotency-Key, and repeated while the secret is that one', () => {
    const first = rotated(2, null, { keyHash: 'again', requestHash: 'overlap 0' });
    given(registered)
      .when(rotate(2, 0, 'again'))
      .thenEvents(first);
    given(registered, first)
      .when(rotate(3, 0, 'again'), minutesLater(15))
      .thenEvents();
    given(registered, first)
      .when(rotate(3, 60, 'again'))
      .thenError('IDEMPOTENCY_KEY_REUSED');
    const used = ['IDEMPOTENCY_KEY_USED', { id: webhookId }] as const;
    given(registered, first)
      .when(rotate(3, 0, 'again'), minutesLater(16))
      .thenError(...used);
    given(registered, first, rotated(3))
      .when(rotate(4, 0, 'again'))
      .thenError(...used);
    given(registered, first)
      .when(rotate(3, 0, 'another'))
      .thenEvents(rotated(3, null, { keyHash: 'another', requestHash: 'overlap 0' }));
  });

  it('out of turn makes no sense', () => {
    expect(stateAfter(registered, rotated(3))).toMatchObject({ status: 'unavailable', secretVersion: 1 });
  });
});

describe('pausing and resuming', () => {
  it('are done once each', () => {
    given(registered).when(pause('failing', '503')).thenEvents(paused('failing', '503'));
    given(registered, paused('gone')).when(pause()).thenEvents();
    given(registered, paused()).when(resume).thenEvents(resumed);
    given(registered).when(resume).thenEvents();
    const state = stateAfter(registered, paused('gone'));
    expect(state).toMatchObject({ status: 'paused', pausedBecause: { cause: 'gone', reason: null } });
    const awake = stateAfter(registered, paused(), resumed);
    expect(awake).toMatchObject({ status: 'active', pausedBecause: null, resumedAt: T0 });
  });
});

describe('an endpoint', () => {
  const commands = [change({ url: 'https://v2.example/' }), rotate(2), pause(), resume, replay(null)];

  it('that is not there takes no command', () => {
    for (const command of [...commands, remove]) {
      given().when(command).thenError('WEBHOOK_NOT_FOUND');
      given(registered, deleted).when(command).thenError('WEBHOOK_NOT_FOUND');
      given(registered)
        .when({ ...command, ...ofAnotherRepository })
        .thenError('WEBHOOK_NOT_FOUND');
    }
  });

  it('with an unreadable history takes no command but its deletion', () => {
    for (const events of [[unreadable], [registered, unreadable], [registered, registered], [registered, elsewhere]]) {
      expect(stateAfter(...events).status).toBe('unavailable');
      for (const command of commands) {
        given(...events)
          .when(command)
          .thenError('WEBHOOK_QUARANTINED', { id: webhookId });
      }
    }
    given(registered, unreadable).when(remove).thenEvents(deleted);
    expect(stateAfter(registered, unreadable, deleted).status).toBe('deleted');
  });

  it('can be set back again and again', () => {
    given(registered, replayed('p')).when(replay('p')).thenEvents(replayed('p'));
    given(registered, paused()).when(replay(null)).thenEvents(replayed(null));
  });
});

describe('an endpoint, whether or not it receives events,', () => {
  it.each([
    ['active', [registered]],
    ['paused', [registered, paused('failing', '503')]],
  ])('is changed, gets a secret, is set back and deleted: %s', (status, events) => {
    const url = 'https://v2.example/';
    const outcomes = [
      [change({ url }), changed({ url })],
      [rotate(2, 60), rotated(2, minutesLater(1))],
      [replay('p'), replayed('p')],
      [remove, deleted],
    ] as const;
    for (const [command, outcome] of outcomes) {
      given(...events)
        .when(command)
        .thenEvents(outcome);
      const after = stateAfter(...events, outcome).status;
      expect([command.type, after]).toEqual([command.type, command === remove ? 'deleted' : status]);
    }
  });
});

describe('a history that makes no sense', () => {
  const events = [
    registered,
    changed({ url: 'https://v2.example/' }),
    rotated(2),
    paused(),
    resumed,
    replayed(null),
    deleted,
  ];
  const elsewhereToo = (event: Event) => ({ ...event, data: { ...event.data, ...ofAnotherRepository } }) as Event;

  it.each<[string, Event[]]>([
    ...events.slice(1).map((event): [string, Event[]] => [`begins with ${event.type}`, [event]]),
    ...events.map((event): [string, Event[]] => [
      `has a ${event.type} of another repository`,
      [registered, elsewhereToo(event)],
    ]),
    ['begins twice', [registered, registered]],
    ['has a secret twice', [registered, rotated(1)]],
    ['misses a secret', [registered, rotated(3)]],
    ['cannot be read', [registered, paused(), unreadable]],
  ])('%s: the endpoint is unavailable, and no pause is shown', (_, history) => {
    expect(stateAfter(...history)).toMatchObject({ status: 'unavailable', pausedBecause: null });
    expect(stateAfter(...history, resumed).status).toBe('unavailable');
    expect(stateAfter(...history, deleted).status).toBe('deleted');
  });
});

describe('an endpoint that came with a copy of a log', () => {
  const asleep = { status: 'paused', pausedBecause: { cause: 'imported', reason: null } };

  it.each([
    ['registered', [imported(registered)]],
    ['resumed there', [imported(registered), imported(paused('gone')), imported(resumed)]],
    ['paused there', [imported(registered), imported(paused('gone'))]],
    ['changed here', [imported(registered), at(changed({ url: 'https://v2.example/' }))]],
    ['set back there', [imported(registered), imported(replayed(null))]],
    ['given a new secret there', [imported(registered), imported(rotated(2, minutesLater(9)))]],
    ['set back here', [imported(registered), at(replayed(null))]],
  ])('sleeps when it was %s', (_, events) => {
    expect(fold(events)).toMatchObject(asleep);
  });

  it('is deleted, or cannot be read, as it was there', () => {
    expect(fold([imported(registered), imported(deleted)])?.status).toBe('deleted');
    expect(fold([imported(registered), imported(unreadable), at(resumed)])?.status).toBe('unavailable');
  });

  it('wakes when it is resumed here', () => {
    const state = fold([imported(registered), at(resumed)]);
    expect(state).toMatchObject({ status: 'active', pausedBecause: null });
    expect(decideWebhook(resume, fold([imported(registered)]), T0)).toEqual([resumed]);
  });
});

describe('whatever happens', () => {
  const event = fc.constantFrom<Event>(
    registered,
    changed({ url: 'https://v2.example/' }),
    rotated(2, minutesLater(1)),
    rotated(3),
    paused('failing', 'x'),
    resumed,
    replayed(null),
    deleted,
    unreadable,
    elsewhere,
  );
  const history = fc.array(fc.tuple(event, fc.boolean()), { maxLength: 12 });

  it('a deleted endpoint stays deleted, and an unavailable one never receives anything again', () => {
    fc.assert(
      fc.property(history, (events) => {
        let before: Webhook | undefined;
        for (const [one, isImported] of events) {
          const after = evolveWebhook(before, at(one, isImported));
          if (before?.status === 'deleted') expect(after).toBe(before);
          if (before?.status === 'unavailable') expect(after.status).not.toMatch(/active|paused/);
          expect(after.pausedBecause !== null).toBe(after.status === 'paused');
          before = after;
        }
      }),
    );
  });

  it('two secrets sign only during the overlap of the last rotation', () => {
    const rotation = fc.record({ after: fc.nat(90), overlap: fc.nat(90) });
    fc.assert(
      fc.property(fc.array(rotation, { minLength: 1, maxLength: 6 }), fc.nat(200), (rotations, later) => {
        let state = stateAfter(registered);
        let now = Date.parse(T0);
        let overlapEnds = now;
        for (const { after, overlap } of rotations) {
          now += after * 1000;
          overlapEnds = now + overlap * 1000;
          const command = rotate(state.secretVersion + 1, overlap);
          const events = decideWebhook(command, state, new Date(now).toISOString());
          state = events.reduce<Webhook>((before, event) => evolveWebhook(before, at(event)), state);
        }
        const time = now + later * 1000;
        const newest = rotations.length + 1;
        expect(signingSecretsAt(state, time).map(({ secretVersion }) => secretVersion)).toEqual(
          time < overlapEnds ? [newest, newest - 1] : [newest],
        );
      }),
    );
  });
});
