import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { loadConfig } from '../src/config.js';
import type { EventStore, RecordedEvent } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import type { Position } from '../src/event-store/position.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import {
  type Answer as IssuedAnswer,
  Model,
  type Outcome,
  type Request,
  verificationResult,
} from './support/models/lifecycle.js';
import { type Child, spawnService } from './support/servers/child-service.js';
import { combinations } from './support/servers/combinations.js';
import type { Answer, Json } from './support/servers/service.js';

/**
 * Random concurrent clients of one repository, at two instances of the service. The log is the witness: each event
 * names its request, which orders the changes. Each answer must be that of the model after a number of commits that was
 * possible while the request ran: no fewer than were answered before it began, and none that began after it ended.
 */

type Do<Name extends string, Rest = object> = { readonly do: Name } & Rest;
type OnKey = { readonly key: number };
type Change =
  | Do<'create', { readonly idempotencyKey: string | undefined; readonly expiresAt: string | null }>
  | Do<'rotate', OnKey & { readonly idempotencyKey: string | undefined; readonly overlapSeconds: number }>
  | Do<'update', OnKey & { readonly name: string; readonly expiresAt: string | null }>
  | Do<'suspend' | 'resume' | 'delete', OnKey>;
/** `fresh`: the read must see all that has been answered. */
type Read =
  | Do<'verify', OnKey & { readonly secret: number; readonly fresh: boolean }>
  | Do<'list', { readonly fresh: boolean }>
  | Do<'history', OnKey>;
type Step = Change | Read;
type Client = { readonly by: string; readonly at: 0 | 1; readonly steps: readonly Step[] };

const PAST = '2020-01-01T00:00:00.000Z';
const FUTURE = '2099-01-01T00:00:00.000Z';
const HOUR = 3600;
/** The model's clock stands still: nothing expires and no overlap ends while the clients run. */
const NOW = Date.now();

// Favours the key that exists from the beginning, created with x: concurrent changes of one key are of interest.
const key = fc.oneof(fc.constant(0), fc.nat(5));
const idempotencyKey = fc.constantFrom(undefined, 'x', 'x', 'y');
const expiresAt = fc.constantFrom(null, null, FUTURE, PAST);
const name = fc.constantFrom('search', 'find');
const fresh = fc.boolean();
const is = <T extends string>(...names: T[]) => fc.constantFrom(...names);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: is('create'), idempotencyKey, expiresAt }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: is('rotate'), key, idempotencyKey, overlapSeconds: fc.constantFrom(0, HOUR) }),
  },
  { weight: 3, arbitrary: fc.record({ do: is('update'), key, name, expiresAt }) },
  { weight: 4, arbitrary: fc.record({ do: is('suspend', 'resume'), key }) },
  { weight: 1, arbitrary: fc.record({ do: is('delete'), key }) },
  { weight: 3, arbitrary: fc.record({ do: is('verify'), key, secret: key, fresh }) },
  { weight: 4, arbitrary: fc.record({ do: is('list'), fresh }) },
  { weight: 1, arbitrary: fc.record({ do: is('history'), key }) },
);
const client: fc.Arbitrary<Client> = fc.record({
  by: fc.constantFrom('ada', 'ada', 'bob'),
  at: fc.constantFrom<0 | 1>(0, 1),
  steps: fc.array(step, { minLength: 1, maxLength: 10 }),
});
const clients = fc.array(client, { minLength: 2, maxLength: 4 });

/** A request and its answer, with both times by a clock that counts the beginnings and ends of requests. */
type Asked = {
  readonly id: string;
  readonly by: string;
  readonly step: Step;
  /** Key of the request, and the secret to verify. */
  readonly keyId: string;
  readonly secret: string;
  readonly began: number;
  readonly ended: number;
  readonly answer: Answer;
};

class Run {
  readonly asked: Asked[] = [];
  readonly #instances: readonly Child[];
  readonly #tokens: ReadonlyMap<string, string>;
  readonly #repoId = randomUUID();
  /** What creations and rotations issued. */
  readonly #issued: IssuedAnswer[] = [];
  #clock = 0;
  /** Latest position in any answer. */
  #position = '';
  #events: readonly RecordedEvent[] = [];
  /** Requests that changed something, in the order of the log. */
  #commits: readonly Asked[] = [];

  constructor(instances: readonly Child[], tokens: ReadonlyMap<string, string>) {
    this.#instances = instances;
    this.#tokens = tokens;
  }

  async execute(all: readonly Client[]): Promise<void> {
    await this.#ask('ada', 0, { do: 'create', idempotencyKey: 'x', expiresAt: null });
    if (!this.areOutcomesKnown) return;
    await Promise.all(
      all.map(async ({ by, at, steps }) => {
        for (const one of steps) await this.#ask(by, at, one);
      }),
    );
  }

  async #ask(by: string, at: 0 | 1, step: Step): Promise<void> {
    const id = `${this.#repoId}-${this.asked.length}-${randomUUID().slice(0, 8)}`;
    const known = [...new Map(this.#issued.map((issued) => [issued.id, issued])).values()];
    const about = known[('key' in step ? step.key : 0) % known.length];
    const { secret = '' } = this.#issued[('secret' in step ? step.secret : 0) % this.#issued.length] ?? {};
    const keyId = about?.id ?? '';
    const began = this.#clock++;
    const answer = await this.#send(at, id, by, step, { id: keyId, key: about?.key ?? '', secret });
    this.asked.push({ id, by, step, keyId, secret, began, ended: this.#clock++, answer });
    const position = answer.headers.get('keyledger-position') ?? '';
    if (position > this.#position) this.#position = position;
    const issued = issuedIn(answer);
    if (issued && !this.#issued.some((other) => other.secret === issued.secret)) this.#issued.push(issued);
  }

  #send(at: 0 | 1, id: string, by: string, step: Step, about: IssuedAnswer): Promise<Answer> {
    const instance = this.#instances[at] as Child;
    const keys = `/repo/${this.#repoId}/ai/apikey`;
    const one = `${keys}/${about.id}`;
    const token = this.#tokens.get(by) ?? '';
    const isFresh = 'fresh' in step && step.fresh;
    const repeatable = 'idempotencyKey' in step ? step.idempotencyKey : undefined;
    const headers = {
      'x-request-id': id,
      ...(isFresh ? { 'keyledger-min-position': this.#position } : {}),
      ...(repeatable === undefined ? {} : { 'idempotency-key': repeatable }),
    };
    switch (step.do) {
      case 'create': {
        const body = { name: 'search', aiType: 'OPENAI', expiresAt: step.expiresAt };
        return instance.ask('POST', keys, { token, headers, body });
      }
      case 'rotate': {
        const body = { overlapSeconds: step.overlapSeconds };
        return instance.ask('POST', `${one}/rotate`, { token, headers, body });
      }
      case 'update': {
        const body = { name: step.name, expiresAt: step.expiresAt };
        return instance.ask('PUT', one, { token, headers, body });
      }
      case 'suspend':
      case 'resume':
        return instance.ask('POST', `${one}/${step.do}`, { token, headers });
      case 'delete':
        return instance.ask('DELETE', one, { token, headers });
      case 'verify': {
        const verifier = this.#tokens.get('verifier') ?? '';
        const body = { key: about.key, secret: about.secret };
        return instance.ask('POST', '/verify', { token: verifier, headers, body });
      }
      case 'list':
        return instance.ask('GET', keys, { token, headers });
      case 'history':
        return instance.ask('GET', `${one}/history`, { token, headers });
    }
  }

  /** False if the outcome of a change is unknown, as with a slow log: then there is nothing to compare. */
  get areOutcomesKnown(): boolean {
    return this.#issued.length > 0 && this.asked.every(({ answer }) => answer.json['code'] !== 'OUTCOME_UNKNOWN');
  }

  /** Asserts that each answer is one that the model gives, too. */
  async check(log: EventStore, start: Position): Promise<void> {
    const events: RecordedEvent[] = [];
    for await (const event of log.readAll(start)) if (this.#isOurs(event)) events.push(event);
    this.#events = events;
    const ids = events.map(requestOf).filter((id, n, all) => id !== all[n - 1]);
    // A request makes its changes in one append, and only these requests change anything.
    expect(new Set(ids).size).toBe(ids.length);
    this.#commits = ids.map((id) => this.asked.find((one) => one.id === id) as Asked);
    expect(this.#commits).not.toContain(undefined);
    for (const one of this.asked) this.#checkAnswer(one);
  }

  /** In the end both instances list the same keys, and verify each secret alike. */
  async checkEnd(): Promise<void> {
    for (const at of [0, 1] as const) {
      const [known] = this.#issued;
      const settled = async (step: Read, about: IssuedAnswer) => {
        let answer: Answer | undefined;
        await eventually(async () => {
          answer = await this.#send(at, randomUUID(), 'ada', step, about);
          return answer.status !== 503;
        });
        return answer as Answer;
      };
      const model = this.#after(this.#commits.length);
      const nothing: IssuedAnswer = { id: '', key: '', secret: '' };
      expect(listIn(await settled({ do: 'list', fresh: true }, known ?? nothing))).toEqual(listOf(model));
      for (const key of model.keys) {
        for (const { secret } of this.#issued) {
          const verify: Read = { do: 'verify', key: 0, secret: 0, fresh: true };
          const answer = await settled(verify, { ...key.answer, secret });
          expect(resultIn(answer)).toBe(verificationResult(key, secret, NOW));
        }
      }
    }
  }

  #checkAnswer(one: Asked): void {
    const count = this.#commits.length;
    const least = this.#commits.findLastIndex(({ ended }) => ended < one.began) + 1;
    const later = this.#commits.findIndex(({ began }) => began > one.ended);
    const most = later < 0 ? count : later;
    const own = this.#commits.indexOf(one);
    if (own >= 0) expect([own >= least, own < most]).toEqual([true, true]);
    // Not done, or not answered: the client may retry it.
    const isRefused = own < 0 && ['UNAVAILABLE', 'BEHIND'].includes(String(one.answer.json['code']));
    const from = 'fresh' in one.step && !one.step.fresh ? 0 : least;
    const places = own >= 0 ? [own] : Array.from({ length: most - from + 1 }, (_, n) => from + n);
    if (isRefused || places.some((place) => this.#isExplained(one, place))) return;
    const { status, text } = one.answer;
    const commits = this.#commits.map(({ id, step }, n) => `${n} ${JSON.stringify(step)} ${id}`);
    throw new Error(
      `${JSON.stringify(one.step)} of ${one.keyId} was answered ${status} ${text}, which is explained by none of the states after ${places} of\n${commits.join('\n')}`,
    );
  }

  /** Whether the answer is that of the model after `commits` commits. */
  #isExplained(one: Asked, commits: number): boolean {
    const { step, answer } = one;
    const model = this.#after(commits);
    const key = model.keys.find(({ answer: { id } }) => id === one.keyId);
    switch (step.do) {
      case 'list':
        return answer.status === 200 && isDeepStrictEqual(listIn(answer), listOf(model));
      case 'verify':
        return resultIn(answer) === (key ? verificationResult(key, one.secret, NOW) : 'UNKNOWN');
      case 'history': {
        const then = new Set(this.#commits.slice(0, commits).map(({ id }) => id));
        const events = this.#events.filter((event) => event.stream.endsWith(one.keyId) && then.has(requestOf(event)));
        const eventIds = (answer.json['events'] as Json[] | undefined)?.map(({ id }) => id);
        return isDeepStrictEqual(
          eventIds,
          events.map(({ id }) => id),
        );
      }
      default: {
        const before = JSON.stringify(model.keys);
        const isOwn = this.#commits.indexOf(one) >= 0;
        const outcome = applied(model, one, isOwn);
        const isChanged = JSON.stringify(model.keys) !== before;
        return isChanged === isOwn && isDeepStrictEqual(outcome, outcomeIn(answer, isOwn));
      }
    }
  }

  #after(commits: number): Model {
    const model = new Model();
    for (const one of this.#commits.slice(0, commits)) applied(model, one, true);
    return model;
  }

  #isOurs({ stream, data }: RecordedEvent): boolean {
    return apiKeyIdOf(stream) !== undefined && (data as { repoId?: unknown }).repoId === this.#repoId;
  }
}

const requestOf = ({ metadata }: RecordedEvent) => (metadata as { readonly requestId: string }).requestId;

/** Outcome of a change in the model; `isDone`: with the secret that the service issued. */
function applied(model: Model, { step, by, keyId, answer }: Asked, isDone: boolean): Outcome {
  const issued = isDone ? issuedIn(answer) : undefined;
  if (step.do === 'create') return model.apply({ ...step, by, repoId: '' }, NOW, issued);
  const key = model.keys.find((one) => one.answer.id === keyId);
  return key ? model.apply({ ...step, by, key } as Request, NOW, issued) : { error: 'KEY_NOT_FOUND' };
}

function outcomeIn(answer: Answer, isDone: boolean): Outcome {
  const issued = issuedIn(answer);
  if (answer.status >= 400) return { error: String(answer.json['code']) };
  return issued ? (isDone ? 'a new secret' : { again: issued }) : 'done';
}

function issuedIn({ json: { id, key, secret } }: Answer): IssuedAnswer | undefined {
  return secret === undefined ? undefined : ({ id, key, secret } as IssuedAnswer);
}

const resultIn = ({ json }: Answer) => (json['valid'] === true ? 'valid' : json['reason']);

const listIn = ({ json }: Answer) =>
  (json['apiKeys'] as Json[] | undefined)?.map(({ id, key, name, status, expiresAt }) => ({
    id,
    key,
    name,
    status,
    expiresAt,
  }));

const listOf = ({ keys }: Model) =>
  keys
    .filter(({ deleted }) => !deleted)
    .map(({ answer: { id, key }, name, suspended, expiresAt }) => ({
      id,
      key,
      name,
      status: suspended ? 'suspended' : 'active',
      expiresAt: Number.isFinite(expiresAt) ? new Date(expiresAt).toISOString() : null,
    }))
    .reverse();

describe.each(combinations)('clients of two instances on $name', ({ start }) => {
  let folder: ReturnType<typeof temporaryFolder>;
  let parts: Awaited<ReturnType<typeof start>>;
  let instances: readonly Child[] = [];
  let tokens: ReadonlyMap<string, string>;
  let log: EventStore;
  beforeAll(async () => {
    folder = temporaryFolder();
    parts = await start();
    const settings = { RATE_LIMIT: '0', ...parts.settings };
    const first = await spawnService(folder.path, settings);
    instances = [first, await spawnService(folder.path, settings)];
    tokens = new Map([
      ['ada', await first.token('admin', 'ada')],
      ['bob', await first.token('admin', 'bob')],
      ['verifier', await first.token('verifier')],
    ]);
    for (const instance of instances) {
      const token = tokens.get('ada') ?? '';
      await eventually(async () => (await instance.ask('GET', '/repo/any/ai/apikey', { token })).status === 200);
    }
    const { EVENT_STORE_URL } = loadConfig({ DATA_DIR: folder.path, ...settings });
    const unexpected = (error: Error) => {
      throw error;
    };
    log = await openEventStore(EVENT_STORE_URL, { onFatal: unexpected, warn: () => undefined });
  }, 120_000);
  afterAll(async () => {
    await log?.close();
    for (const instance of instances) await instance.end('SIGTERM');
    await parts?.stop();
    folder.remove();
  }, 60_000);

  it('are answered as if one had been asked after the other', async () => {
    await fc.assert(
      fc.asyncProperty(clients, async (all) => {
        const start = await log.end();
        const run = new Run(instances, tokens);
        await run.execute(all);
        if (!run.areOutcomesKnown) return;
        await run.check(log, start);
        await run.checkEnd();
      }),
      { numRuns: 40, interruptAfterTimeLimit: 100_000 },
    );
  }, 150_000);
});
