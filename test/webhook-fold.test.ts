import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { SealedSecret } from '../src/domain/sealed-secret.js';
import { webhookStream } from '../src/domain/webhook.js';
import { encode } from '../src/event-store/codec.js';
import { EVENT_TYPES } from '../src/event-store/event-schemas.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hex16, makePosition } from '../src/event-store/position.js';
import { createFile } from '../src/projections/local/file.js';
import type { ProjectionStore } from '../src/projections/local/store.js';
import { evolveWebhookEntry, type WebhookEntry } from '../src/projections/webhook-entry.js';
import {
  changed,
  deleted,
  paused,
  registered,
  replayed,
  repoId,
  resumed,
  rotated,
  T0,
  webhookId,
} from './support/fixtures/given-webhook.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

type Event = Parameters<typeof encode>[0];

const cause = { actor: { issuer: 'test', subject: 'ada' }, requestId: 'r', commandId: 'c' };
const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const place = (revision: number) => makePosition(LOG, hex16(revision));

/** Event of the endpoint's stream as the log records it; its position is that of its revision. */
function recorded(event: Event, revision: number): RecordedEvent {
  const { id, type, data, metadata } = encode(event, `event ${revision}`, T0, cause);
  const stream = webhookStream(webhookId);
  return { id, type, data, metadata, stream, revision, position: place(revision), recordedAt: T0 };
}
function imported(event: Event, revision: number): RecordedEvent {
  const { metadata, ...rest } = recorded(event, revision);
  return { ...rest, metadata: { ...(metadata as object), importedFrom: { recordedAt: T0 } } };
}
const here = recorded;
const unreadable = (revision: number, data: unknown = {}): RecordedEvent => ({
  ...here(resumed, revision),
  type: 'WebhookBlessed',
  data,
});

type Step = readonly [(event: Event, revision: number) => RecordedEvent, Event];
const fold = (...steps: Step[]) =>
  steps.reduce<WebhookEntry | undefined>(
    (entry, [make, event], revision) => evolveWebhookEntry(entry, make(event, revision)),
    undefined,
  ) as WebhookEntry;
const deliveryState = ({ from, replay }: WebhookEntry) => ({ from, replay });

describe('an endpoint receives', () => {
  it('what follows its registration, whatever happens to it', () => {
    const begin = { from: place(0), replay: -1 };
    const life = [changed({ url: 'https://v2.example/' }), rotated(2), paused(), resumed, paused(), deleted];
    for (let length = 0; length <= life.length; length++) {
      const steps = life.slice(0, length).map((event): Step => [here, event]);
      expect(deliveryState(fold([here, registered], ...steps))).toEqual(begin);
    }
  });

  it('what follows the position of its last replay, or everything', () => {
    const back: Step[] = [
      [here, registered],
      [here, replayed(place(7))],
    ];
    expect(deliveryState(fold(...back))).toEqual({ from: place(7), replay: 1 });
    expect(deliveryState(fold(...back, [here, paused()], [here, resumed]))).toMatchObject({ replay: 1 });
    expect(deliveryState(fold(...back, [here, replayed(null)]))).toEqual({ from: null, replay: 2 });
    expect(deliveryState(fold(...back, [here, replayed(place(7))]))).toEqual({ from: place(7), replay: 2 });
  });
});

describe('an endpoint of a copy receives', () => {
  const there: Step[] = [
    [imported, registered],
    [imported, replayed('other log:3')],
    [imported, paused()],
    [imported, resumed],
  ];

  it('nothing of a position of the log that it came from', () => {
    expect(deliveryState(fold(...there))).toEqual({ from: place(0), replay: -1 });
  });

  it('what follows the event that resumed it first, not a later resumption', () => {
    const awake = fold(...there, [here, resumed]);
    expect(awake.webhook.status).toBe('active');
    expect(deliveryState(awake)).toEqual({ from: place(4), replay: -1 });
    const again = fold(...there, [here, resumed], [here, paused()], [here, resumed]);
    expect(deliveryState(again)).toEqual(deliveryState(awake));
  });

  it('what follows the position of its replay here, before or after it was resumed', () => {
    const before = fold(...there, [here, replayed(null)], [here, resumed]);
    expect(deliveryState(before)).toEqual({ from: null, replay: 4 });
    const after = fold(...there, [here, resumed], [here, replayed(place(2))]);
    expect(deliveryState(after)).toEqual({ from: place(2), replay: 5 });
  });
});

describe('an entry', () => {
  it('takes an event once, and is unavailable where events are missing', () => {
    const entry = fold([here, registered], [here, replayed(null)]);
    for (const old of [here(registered, 0), here(replayed(place(9)), 1), here(deleted, 1)]) {
      expect(evolveWebhookEntry(entry, old)).toBe(entry);
    }
    const next = evolveWebhookEntry(entry, here(paused(), 3));
    expect([next.webhook.status, next.revision, next.position]).toEqual(['unavailable', 3, place(3)]);
  });

  it('is not set back by what cannot be read, nor when it is unavailable', () => {
    const entry = fold([here, registered], [here, replayed(place(7))]);
    const broken = evolveWebhookEntry(entry, unreadable(2, { repoId }));
    expect(deliveryState(evolveWebhookEntry(broken, here(replayed(null), 3)))).toEqual(deliveryState(entry));
  });

  const metadata = recorded(resumed, 0).metadata as object;
  const wild = fc.record({
    type: fc.constantFrom(...EVENT_TYPES, 'WebhookBlessed', '__proto__'),
    data: fc.oneof(fc.jsonValue(), fc.constant({ webhookId, repoId }), fc.constant(null)),
    metadata: fc.oneof(fc.jsonValue(), fc.constant(metadata)),
    skipped: fc.nat(1),
  });
  const sound = fc
    .tuple(fc.constantFrom<Event>(registered, rotated(2), paused(), resumed, replayed(null), deleted), fc.boolean())
    .map(([event, isCopied]) => {
      const { type, data, metadata } = (isCopied ? imported : here)(event, 0);
      return { type, data, metadata, skipped: 0 };
    });

  it('folds whatever the log holds; once unavailable or deleted, it never receives anything again', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(sound, wild), { maxLength: 12 }), (events) => {
        let entry: WebhookEntry | undefined;
        let revision = -1;
        for (const { skipped, ...event } of events) {
          revision += 1 + skipped;
          const before: WebhookEntry | undefined = entry;
          const after = evolveWebhookEntry(before, { ...here(resumed, revision), ...event });
          if (before?.webhook.status === 'deleted') expect(after.webhook).toBe(before.webhook);
          if (before?.webhook.status === 'unavailable') expect(after.webhook.status).not.toMatch(/active|paused/);
          if (skipped > 0) expect(after.webhook.status).toMatch(/unavailable|deleted/);
          expect([after.revision, after.position]).toEqual([revision, place(revision)]);
          expect(after.replay).toBeLessThanOrEqual(revision);
          entry = after;
        }
      }),
    );
  });
});

describe('the endpoints of a log', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let close: () => void;
  let store: ProjectionStore;
  beforeEach(() => {
    folder = temporaryFolder();
    const file = createFile(join(folder.path, 'projections.db'), LOG);
    store = file.store;
    close = () => file.db.close();
  });
  afterEach(() => {
    close();
    folder.remove();
  });
  const of = (id: string, event: RecordedEvent, data: object = {}): RecordedEvent => ({
    ...event,
    stream: webhookStream(id),
    data: { ...(event.data as object), webhookId: id, ...data },
  });
  const ids = ['a', 'b', 'c'].map((digit) => webhookId.replaceAll(/./g, (c) => (c === '-' ? c : digit)));
  const [one = '', two = '', three = ''] = ids;

  it('are listed by their repository in the order of their registration, without deleted ones', () => {
    const { webhooks } = store;
    for (const id of [two, one, three]) store.fold(of(id, here(registered, 0)));
    store.fold(of(webhookId, here(registered, 0), { repoId: 'bank' }));
    store.commit();
    const listed = () => webhooks.ofRepository(repoId).map(({ webhook }) => webhook.webhookId);
    expect(listed()).toEqual([two, one, three]);
    store.fold(of(one, here(deleted, 1)));
    store.commit();
    expect(listed()).toEqual([two, three]);
    expect(webhooks.get(one)?.webhook.status).toBe('deleted');
    expect([...webhooks.existing()].map(({ webhook }) => webhook.webhookId)).toEqual([two, three, webhookId]);
    expect(webhooks.ofRepository('nowhere')).toEqual([]);
  });

  it('are listed as unavailable where only their repository can be read', () => {
    store.fold({ ...unreadable(0, { repoId }), stream: webhookStream(one) });
    store.commit();
    expect(store.webhooks.ofRepository(repoId).map(({ webhook }) => webhook)).toMatchObject([
      { webhookId: one, repoId, status: 'unavailable' },
    ]);
  });

  it('are kept without their secrets, which only the log holds', () => {
    store.fold(of(one, here(registered, 0)));
    store.fold(of(one, here(rotated(2), 1)));
    store.commit();
    const stored = readFileSync(join(folder.path, 'projections.db'), 'latin1');
    for (const { data } of [registered, rotated(2)]) {
      const { sealedSecret, secretHash } = data as SealedSecret;
      expect([stored.includes(sealedSecret), stored.includes(secretHash)]).toEqual([false, false]);
    }
  });
});
