import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../../../src/domain/ai-api-key.js';
import type {
  AppendResult,
  EventStore,
  ExpectedRevision,
  RecordedEvent,
} from '../../../src/event-store/event-store.js';
import type { Position } from '../../../src/event-store/position.js';
import { eventually } from '../assertions/eventually.js';

/**
 * Random programs on one log that is open twice. The model of the log is the list of events that it held after the last
 * group. The actions of a group run concurrently: each answer must be right for what the log held at some point in time
 * during the group, and each new event must be one whose append the log acknowledged.
 */

type Opener = 0 | 1;
type Append = {
  readonly stream: number;
  readonly ids: readonly string[];
  readonly expected: ExpectedRevision | 'last';
};
type Action = { readonly by: Opener } & (
  | ({ readonly do: 'append' } & Append)
  | { readonly do: 'append again'; readonly which: number }
  | { readonly do: 'read'; readonly stream: number }
  /** Indexes of events and of followers are taken modulo their number. */
  | { readonly do: 'read all'; readonly after: number }
  | { readonly do: 'event at' | 'end'; readonly at: number }
  | { readonly do: 'follow'; readonly after: number; readonly isSlow: boolean }
  | { readonly do: 'leave'; readonly which: number }
);

const STREAMS = 3;
/** Milliseconds after which a follower without its events fails, so that fast-check can shrink the program. */
const FOLLOW_TIMEOUT_MS = 10_000;
const is = <T extends Action['do']>(...names: T[]) => fc.constantFrom(...names);
const by = fc.constantFrom<Opener>(0, 1);
const stream = fc.nat(STREAMS - 1);
const number = fc.nat(20);
const id = fc.nat(4).map((n) => `00000000-0000-4000-8000-00000000000${n}`);
const ids = fc.oneof(
  fc.array(id, { minLength: 1, maxLength: 3 }),
  fc.array(fc.uuid({ version: 4 }), { minLength: 1, maxLength: 3 }),
);
const expected = fc.oneof(
  { weight: 4, arbitrary: fc.constant<'last'>('last') },
  { weight: 1, arbitrary: fc.constant<ExpectedRevision>('no-stream') },
  { weight: 1, arbitrary: fc.nat(5) },
);
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: is('append'), by, stream, ids, expected }) },
  { weight: 2, arbitrary: fc.record({ do: is('append again'), by, which: number }) },
  { weight: 1, arbitrary: fc.record({ do: is('read'), by, stream }) },
  { weight: 1, arbitrary: fc.record({ do: is('read all'), by, after: number }) },
  { weight: 1, arbitrary: fc.record({ do: is('event at', 'end'), by, at: number }) },
  { weight: 2, arbitrary: fc.record({ do: is('follow'), by, after: number, isSlow: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: is('leave'), by, which: number }) },
);
const program = fc.array(fc.array(action, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 10 });

type Asked = {
  readonly stream: string;
  readonly ids: readonly string[];
  readonly expected: ExpectedRevision;
};
type Answered = Asked & { readonly result: AppendResult };
/** Reader of a subscription; the events it has seen must be those that the log holds after its start. */
type Follower = {
  readonly after: number;
  readonly seen: RecordedEvent[];
  readonly stop: AbortController;
  readonly ended: Promise<void>;
};

class Run {
  readonly #openers: readonly EventStore[];
  readonly #start: Position;
  readonly #streams = Array.from({ length: STREAMS }, () => apiKeyStream(uuid()));
  /** What the log held after the last group. */
  #held: readonly RecordedEvent[] = [];
  readonly #asked: Asked[] = [];
  #answered: Answered[] = [];
  #checks: (() => void)[] = [];
  #followers: Follower[] = [];
  #groupEnded: () => void = () => {};
  #group: Promise<void> = Promise.resolve();

  constructor(openers: readonly EventStore[], start: Position) {
    this.#openers = openers;
    this.#start = start;
  }

  async execute(group: readonly Action[]): Promise<void> {
    this.#answered = [];
    this.#checks = [];
    this.#group = new Promise((resolve) => {
      this.#groupEnded = resolve;
    });
    await Promise.all(group.map((one) => this.#do(one)));
    const before = this.#held;
    this.#held = await this.#readAll(0, 0);
    expect(this.#held.slice(0, before.length)).toEqual(before);
    for (const one of this.#answered) this.#checkAnswer(one, before);
    this.#checkAllAcknowledged(before.length);
    for (const check of this.#checks) check();
    this.#checkFollowers();
    this.#groupEnded();
  }

  /** Every follower that remains receives all events, and ends when the test aborts it. */
  async end(): Promise<void> {
    this.#groupEnded();
    for (const one of this.#followers) {
      const giveUpAt = performance.now() + FOLLOW_TIMEOUT_MS;
      const hasAll = () => one.seen.length >= this.#held.length - one.after;
      await Promise.race([eventually(() => hasAll() || performance.now() > giveUpAt), one.ended]);
      one.stop.abort();
      await one.ended;
      expect(one.seen).toEqual(this.#held.slice(one.after));
    }
  }

  abandon(): void {
    this.#groupEnded();
    for (const { stop } of this.#followers) stop.abort();
  }

  async #do(action: Action): Promise<void> {
    const log = this.#openers[action.by] as EventStore;
    const before = this.#held;
    const at = (n: number) => n % (before.length + 1);
    switch (action.do) {
      case 'append': {
        const stream = this.#streams[action.stream] as string;
        const expected = action.expected === 'last' ? lastOf(inStream(before, stream)) : action.expected;
        return this.#append(log, { stream, ids: action.ids, expected });
      }
      case 'append again': {
        const earlier = this.#asked[action.which % this.#asked.length];
        return earlier && this.#append(log, earlier);
      }
      case 'read': {
        const stream = this.#streams[action.stream] as string;
        const found = await all(log.readStream(stream));
        this.#checks.push(() => this.#checkPart(found, inStream(before, stream), inStream(this.#held, stream)));
        return;
      }
      case 'read all': {
        const after = at(action.after);
        const found = await this.#readAll(action.by, after);
        this.#checks.push(() => this.#checkPart(found, before.slice(after), this.#held.slice(after)));
        return;
      }
      case 'event at': {
        const one = before[action.at % before.length];
        if (one) expect(await log.eventAt(one.position)).toEqual(one);
        return;
      }
      case 'end': {
        const end = await log.end();
        expect(end >= this.#positionAfter(before.length)).toBe(true);
        if (before.length > 0) expect((await log.eventAt(end))?.position).toBe(end);
        return;
      }
      case 'follow':
        this.#followers.push(this.#follow(log, at(action.after), action.isSlow));
        return;
      case 'leave': {
        const [one] = this.#followers.splice(action.which % this.#followers.length, 1);
        one?.stop.abort();
        this.#groupEnded();
        await one?.ended;
        this.#checks.push(() => one && this.#checkFollower(one));
      }
    }
  }

  async #append(log: EventStore, asked: Asked): Promise<void> {
    this.#asked.push(asked);
    const events = asked.ids.map((id) => ({ id, type: 'Tested', data: {}, metadata: {} }));
    this.#answered.push({ ...asked, result: await log.append(asked.stream, events, asked.expected) });
  }

  #follow(log: EventStore, after: number, isSlow: boolean): Follower {
    const seen: RecordedEvent[] = [];
    const stop = new AbortController();
    const known = this.#positionAfter(this.#held.length);
    const follow = async () => {
      for await (const batch of log.subscribe(this.#positionAfter(after), stop.signal)) {
        seen.push(...batch.events.filter(({ stream }) => this.#streams.includes(stream)));
        expect(batch.position >= (batch.events.at(-1)?.position ?? '')).toBe(true);
        if (batch.caughtUp) expect(batch.position >= known).toBe(true);
        if (isSlow) await this.#group;
      }
    };
    const ended = follow();
    // The error reaches those who await `ended`.
    ended.catch(() => {});
    return { after, seen, stop, ended };
  }

  /**
   * An append succeeded at the expected revision, or conflicted because the stream was elsewhere and did not hold its
   * events.
   */
  #checkAnswer({ stream, ids, expected, result }: Answered, before: readonly RecordedEvent[]): void {
    const held = inStream(this.#held, stream);
    const first = expected === 'no-stream' ? 0 : expected + 1;
    if (result.appended) {
      const there = held.slice(first, first + ids.length);
      expect(there.map((one) => one.id)).toEqual(ids);
      expect(there.map(({ revision }) => revision)).toEqual(ids.map((_, n) => first + n));
      expect(result).toEqual({
        appended: true,
        revision: first + ids.length - 1,
        position: there.at(-1)?.position,
      });
    } else {
      const ends = this.#answered.flatMap((other) =>
        other.stream === stream && other.result.appended ? [other.result.revision] : [],
      );
      const known = inStream(before, stream);
      expect([lastOf(known), ...ends]).toContain(result.actualRevision);
      expect(result.actualRevision).not.toBe(expected);
      // Events of this group need not be recognised: EventStoreDB does not if the same ids are in another stream, too.
      expect(known.slice(first, first + ids.length).map(({ id }) => id)).not.toEqual(ids);
    }
  }

  /** Each new event of this group is one whose append the log acknowledged. */
  #checkAllAcknowledged(from: number): void {
    const acknowledged = this.#answered.flatMap(({ stream, ids, result }) =>
      result.appended ? ids.map((_, n) => `${stream} ${result.revision - n}`) : [],
    );
    for (const { stream, revision } of this.#held.slice(from)) expect(acknowledged).toContain(`${stream} ${revision}`);
  }

  /** A read returns at least what the log held before the group, and at most what it holds after it. */
  #checkPart(found: readonly RecordedEvent[], least: readonly RecordedEvent[], most: readonly RecordedEvent[]): void {
    expect(found.length).toBeGreaterThanOrEqual(least.length);
    expect(found).toEqual(most.slice(0, found.length));
  }

  #checkFollowers(): void {
    for (const one of this.#followers) this.#checkFollower(one);
  }

  #checkFollower({ after, seen }: Follower): void {
    expect(seen).toEqual(this.#held.slice(after, after + seen.length));
  }

  /** Position of the last of the first `count` events. */
  #positionAfter(count: number): Position {
    return this.#held[count - 1]?.position ?? this.#start;
  }

  async #readAll(opener: Opener, after: number): Promise<RecordedEvent[]> {
    const log = this.#openers[opener] as EventStore;
    const found = await all(log.readAll(this.#positionAfter(after)));
    return found.filter((one) => this.#streams.includes(one.stream));
  }
}

const inStream = (events: readonly RecordedEvent[], name: string) => events.filter((one) => one.stream === name);
const lastOf = (events: readonly RecordedEvent[]): ExpectedRevision => events.at(-1)?.revision ?? 'no-stream';

async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of iterable) found.push(one);
  return found;
}

/** @param open opens the same log each time; others may append to it, too */
export function describeEventStoreModel(name: string, open: () => Promise<EventStore>): void {
  describe(`${name}, open twice,`, () => {
    let openers: readonly EventStore[];
    beforeAll(async () => {
      openers = [await open(), await open()];
    });
    afterAll(async () => {
      for (const log of openers) await log.close();
    });

    it('behaves like a list of events under concurrent appends, reads and subscriptions', async () => {
      await fc.assert(
        fc.asyncProperty(program, async (groups) => {
          const run = new Run(openers, await (openers[0] as EventStore).end());
          try {
            for (const group of groups) await run.execute(group);
            await run.end();
          } finally {
            run.abandon();
          }
        }),
        { numRuns: 60, interruptAfterTimeLimit: 100_000 },
      );
    }, 120_000);
  });
}
