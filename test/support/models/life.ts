import { randomUUID } from 'node:crypto';
import { expect } from '@jest/globals';
import fc from 'fast-check';
import { createAiApiKey } from '../../../src/commands/api-keys/create-ai-api-key.js';
import { rotateAiApiKey } from '../../../src/commands/api-keys/rotate-ai-api-key.js';
import { apiKeyStream } from '../../../src/domain/ai-api-key.js';
import { decodeApiKeyEvent } from '../../../src/event-store/codec.js';
import type { EventStore } from '../../../src/event-store/event-store.js';
import type { Position } from '../../../src/event-store/position.js';
import { apiKeyIdOf } from '../../../src/event-store/streams.js';
import { hashOf } from '../../../src/security/credentials.js';
import { Keyring, makeMasterKey } from '../../../src/security/keyring.js';
import {
  deleteAiApiKey,
  resumeAiApiKey,
  revokeLeakedAiApiKey,
  suspendAiApiKey,
  updateAiApiKey,
} from '../fixtures/api-key-commands.js';
import { KeyFold } from './key-fold.js';
import { type Answer, Model, type Outcome, type Request, verificationResult } from './lifecycle.js';

/** Before the time of the log's own clock. */
const START = Date.parse('2020-01-01T00:00:00.000Z');
const MINUTE = 60_000;
const keyring = new Keyring(makeMasterKey('k1'));

type Step = {
  readonly do: Request['do'] | 'tick' | 'repeat';
  readonly ms?: number;
  readonly which?: number;
  readonly times?: number;
  readonly index?: number;
  readonly secret?: number;
  readonly repo?: string;
  readonly by?: string;
  readonly idempotencyKey?: string | undefined;
  readonly expiresIn?: number | null;
  readonly overlapSeconds?: number;
  readonly name?: string;
};

/** One step of a life; its key and its secret are indexes modulo the number that exist. */
const index = fc.nat(5);
const caller = fc.constantFrom('ada', 'bob');
const idempotencyKey = fc.option(fc.constantFrom('x', 'y'), { nil: undefined });
const is = <T extends Step['do']>(...names: T[]) => fc.constantFrom(...names);
const minutes = (min: number, max: number) => fc.integer({ min, max }).map((n) => n * MINUTE);
export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: is('tick'), ms: minutes(-40, 60) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: is('create'),
      repo: fc.constantFrom('a', 'b'),
      by: caller,
      idempotencyKey,
      expiresIn: fc.option(minutes(-1, 60), { freq: 2 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: is('rotate'),
      index,
      by: caller,
      idempotencyKey,
      overlapSeconds: fc.constantFrom(0, 60, 1800),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: is('update'),
      index,
      name: fc.constantFrom('search', 'find'),
      expiresIn: fc.option(minutes(-1, 60), { freq: 2 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: is('suspend', 'resume', 'resume'), index }) },
  { weight: 1, arbitrary: fc.record({ do: is('delete'), index }) },
  { weight: 1, arbitrary: fc.record({ do: is('revoke'), index, secret: index }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: is('repeat'),
      which: fc.nat(30),
      times: fc.integer({ min: 1, max: 2 }),
    }),
  },
);

/** Random keys in a log, changed by the real commands, and the model of what they must be. */
export class Life {
  readonly model = new Model();
  readonly index = new KeyFold();
  readonly secrets: string[] = [];
  readonly #run = randomUUID();
  readonly #requests: Request[] = [];
  readonly #log: EventStore;
  #now = START;
  #seen: Position | undefined;

  constructor(log: EventStore, from: Position) {
    this.#log = log;
    this.#seen = from;
  }

  async execute(step: Step): Promise<void> {
    if (step.do === 'tick') this.#now += step.ms ?? 0;
    else if (step.do === 'repeat') {
      const request = this.#requests[(step.which ?? 0) % this.#requests.length];
      // Concurrently if `times` is 2: the command handlers run one after the other.
      if (request) await Promise.all(Array.from({ length: step.times ?? 1 }, () => this.#ask(request)));
    } else {
      const request = this.#requestOf(step);
      if (!request) return;
      this.#requests.push(request);
      await this.#ask(request);
    }
    await this.#check();
  }

  #requestOf(step: Step): Request | undefined {
    const { by = 'ada', idempotencyKey, overlapSeconds = 0, name = '' } = step;
    const ms = step.expiresIn ?? null;
    const expiresAt = ms === null ? null : new Date(this.#now + ms).toISOString();
    const whose = { by, idempotencyKey };
    if (step.do === 'create') return { do: 'create', repoId: `${this.#run}-${step.repo}`, expiresAt, ...whose };
    const key = this.model.keys[(step.index ?? 0) % this.model.keys.length];
    const secret = this.secrets[(step.secret ?? 0) % this.secrets.length];
    if (!key || !secret || step.do === 'tick' || step.do === 'repeat') return undefined;
    if (step.do === 'rotate') return { do: 'rotate', key, overlapSeconds, ...whose };
    if (step.do === 'update') return { do: 'update', key, expiresAt, name, by };
    if (step.do === 'revoke') return { do: 'revoke', key, secret, by };
    return { do: step.do, key, by };
  }

  /** Calls the service, then the model; two concurrent requests keep this order. */
  async #ask(request: Request): Promise<void> {
    const now = this.#now;
    const { answer, error } = await this.#real(request, now).then(
      (given) => ({ answer: given, error: undefined }),
      (reason: { code?: string }) => ({ answer: undefined, error: reason.code ?? String(reason) }),
    );
    const isNew = answer !== undefined && !this.secrets.includes(answer.secret);
    const expected = this.model.apply(request, now, answer);
    const outcome: Outcome = error ? { error } : !answer ? 'done' : isNew ? 'a new secret' : { again: answer };
    expect([request.do, outcome]).toEqual([request.do, expected]);
    if (answer && isNew) this.secrets.push(answer.secret);
  }

  async #real(request: Request, now: number): Promise<Answer | undefined> {
    const context = {
      log: this.#log,
      keyring,
      clock: () => now,
      actor: { issuer: 'test', subject: request.by },
      requestId: 'request',
      from: '127.0.0.1',
      verified: true,
    };
    const only = ({ id, key, secret }: Answer) => ({ id, key, secret });
    const { idempotencyKey } = request;
    if (request.do === 'create') {
      const { repoId, expiresAt } = request;
      const wanted = { repoId, name: 'search', aiType: 'OPENAI' as const, expiresAt, idempotencyKey };
      return only(await createAiApiKey(context, wanted));
    }
    const key = { repoId: request.key.repoId, apiKeyId: request.key.answer.id };
    switch (request.do) {
      case 'rotate':
        return only(await rotateAiApiKey(context, { ...key, idempotencyKey, overlapSeconds: request.overlapSeconds }));
      case 'update':
        await updateAiApiKey(context, { ...key, name: request.name, expiresAt: request.expiresAt });
        return undefined;
      case 'suspend':
        await suspendAiApiKey(context, { ...key, reason: null });
        return undefined;
      case 'resume':
        await resumeAiApiKey(context, key);
        return undefined;
      case 'delete':
        await deleteAiApiKey(context, key);
        return undefined;
      case 'revoke':
        await revokeLeakedAiApiKey(context, { ...key, secretHash: hashOf(request.secret) });
        return undefined;
    }
  }

  /** The index verifies every secret ever issued, with every key, as the model does. */
  async #check(): Promise<void> {
    for await (const recorded of this.#log.readAll(this.#seen)) {
      if (apiKeyIdOf(recorded.stream) !== undefined) this.index.apply(recorded);
      this.#seen = recorded.position;
    }
    for (const key of this.model.keys) {
      for (const secret of this.secrets) {
        const request = { accessKey: key.answer.key, secret, canSee: () => true };
        const result = this.index.verify(request, this.#now);
        expect(result.valid ? 'valid' : result.reason).toBe(verificationResult(key, secret, this.#now));
      }
    }
  }

  /** The log holds no secret in plain text, holds each issued secret sealed, and its times never decrease. */
  async checkLog(): Promise<void> {
    const opened: string[] = [];
    for (const { answer } of this.model.keys) {
      let last = '';
      let revision = 0;
      for await (const recorded of this.#log.readStream(apiKeyStream(answer.id))) {
        const event = decodeApiKeyEvent(recorded, revision++);
        expect(event.occurredAt >= last).toBe(true);
        last = event.occurredAt;
        const text = JSON.stringify(recorded);
        expect(this.secrets.filter((secret) => text.includes(secret))).toEqual([]);
        if (event.type !== 'ApiKeyCreated' && event.type !== 'ApiKeySecretRotated') continue;
        const secretVersion = event.type === 'ApiKeyCreated' ? 1 : event.data.secretVersion;
        const { sealedSecret, secretHash } = event.data;
        opened.push(keyring.open(sealedSecret, { apiKeyId: answer.id, secretVersion }, secretHash) ?? '');
      }
    }
    expect(opened.sort()).toEqual([...this.secrets].sort());
  }
}
