import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type ApiKeyCommand, type ApiKeyState, apiKeyStream, evolveApiKey } from '../src/domain/ai-api-key.js';
import { decideApiKey } from '../src/domain/decide-ai-api-key.js';
import { decideWebhook } from '../src/domain/decide-webhook.js';
import { evolveWebhook, type Webhook, type WebhookCommand, webhookStream } from '../src/domain/webhook.js';
import { decodeApiKeyEvent, decodeWebhookEvent, encode } from '../src/event-store/codec.js';
import type { DomainEvent } from '../src/event-store/event-schemas.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import {
  apiKeyId,
  create,
  msLater,
  remove,
  repoId,
  resume,
  revoke,
  rotate,
  suspend,
  T0,
  update,
} from './support/fixtures/given-api-key.js';
import * as hook from './support/fixtures/given-webhook.js';

/**
 * Random commands on one stream, decided and folded without a log. The model of the state is no fold: it searches the
 * list of effective commands for the last one that set each field.
 */

/** Command that had an effect, and its time (RFC 3339). */
type Done<Command> = { readonly command: Command; readonly at: string };
type Idempotency = { readonly keyHash: string; readonly requestHash: string };

/** Status of a key or a webhook after each command, whether or not that changed it. */
const STATUS_AFTER: Readonly<Record<string, string>> = {
  SuspendAiApiKey: 'suspended',
  ResumeAiApiKey: 'active',
  DeleteAiApiKey: 'deleted',
  PauseWebhook: 'paused',
  ResumeWebhook: 'active',
  DeleteWebhook: 'deleted',
};
const MINUTE = 60_000;
const overlap = fc.constantFrom(0, 60, 3600);
const idempotencyKey = fc.constantFrom(undefined, 'x', 'y');
const elsewhere = <Command extends { readonly repoId: string }>(one: Command): Command => ({
  ...one,
  repoId: 'elsewhere',
});

const cause = { actor: { issuer: 'test', subject: 'ada' }, requestId: 'r', commandId: 'c' };
/** Event as the log returns it. */
function recorded(stream: string, event: DomainEvent, revision: number, occurredAt: string): RecordedEvent {
  const written = JSON.parse(JSON.stringify(encode(event, `event ${revision}`, occurredAt, cause)));
  return { ...written, stream, revision, position: `log:${revision}` as Position, recordedAt: T0 };
}

const secondsAfter = (at: string, seconds: number) => new Date(Date.parse(at) + seconds * 1000).toISOString();
const given = (secrets: readonly Done<{ readonly idempotency?: Idempotency | undefined }>[]) =>
  secrets.flatMap(({ command: { idempotency }, at }, i) =>
    idempotency ? [{ ...idempotency, secretVersion: i + 1, at }] : [],
  );

/** Aggregate under test. */
type Rules<Command, State> = {
  readonly command: fc.Arbitrary<Command>;
  /** The command, addressed to this state. */
  readonly addressed: (command: Command, state: State | undefined) => Command;
  readonly decide: (command: Command, state: State | undefined, now: string) => DomainEvent[];
  /** State after the log has recorded an event and the fold has applied it. */
  readonly after: (state: State | undefined, event: DomainEvent, revision: number, at: string) => State;
  readonly expected: (done: readonly Done<Command>[]) => State | undefined;
};

function holds<
  Command extends { readonly type: string; readonly repoId: string },
  State extends { readonly status: string; readonly repoId: string },
>({ command, addressed, decide, after, expected }: Rules<Command, State>): void {
  // Minutes between one command and the next; negative where the clock is set back.
  const life = fc.array(fc.tuple(fc.integer({ min: -10, max: 30 }), command), { maxLength: 30 });
  fc.assert(
    fc.property(life, (steps) => {
      const done: Done<Command>[] = [];
      let state: State | undefined;
      let revision = 0;
      let now = Date.parse(T0);
      for (const [minutes, wanted] of steps) {
        now += minutes * MINUTE;
        const at = new Date(now).toISOString();
        const one = addressed(wanted, state);
        const isThere = state !== undefined && state.status !== 'deleted' && state.repoId === one.repoId;
        const { events, code } = attempt(() => decide(one, state, at));
        if (!/^(Create|Register|RevokeLeaked)/.test(one.type)) expect(/NOT_FOUND/.test(code)).toBe(!isThere);
        if (state?.status === 'deleted') expect(events).toEqual([]);
        for (const event of events) state = after(state, event, revision++, at);
        const isWish = code === '' && /^(Update|Change)/.test(one.type);
        if (events.length > 0 || isWish) done.push({ command: one, at });
        expect(state).toEqual(expected(done));
        if (code === '' && STATUS_AFTER[one.type]) expect(state?.status).toBe(STATUS_AFTER[one.type]);

        const isNewEachTime = /^(Rotate|Replay)/.test(one.type) && !('idempotency' in one && one.idempotency);
        if (isNewEachTime) expect(events.length).toBe(code === '' ? 1 : 0);
        else expect(attempt(() => decide(one, state, at)).events).toEqual([]);
      }
    }),
    { numRuns: 500 },
  );
}

function attempt(decision: () => DomainEvent[]): { events: DomainEvent[]; code: string } {
  try {
    return { events: decision(), code: '' };
  } catch (error) {
    return { events: [], code: (error as { readonly code: string }).code };
  }
}

describe('whatever is asked of it, however often, and whatever the clock says,', () => {
  it('a key is what was last said of each of its fields, and its events are all readable', () => {
    const expiresAt = fc.constantFrom(undefined, null, msLater(60 * MINUTE), msLater(200 * MINUTE));
    const inShop: fc.Arbitrary<ApiKeyCommand> = fc.oneof(
      fc.constantFrom(create, { ...create, idempotency: undefined }, suspend, resume, remove),
      fc.constantFrom('hash 1', 'hash 2', 'hash 3', 'hash 99').map(revoke),
      fc.tuple(overlap, idempotencyKey).map(([seconds, key]) => rotate(0, seconds, key)),
      fc
        .record({ name: fc.constantFrom('search', 'find'), expiresAt }, { requiredKeys: [] })
        .map((change) => update(change as object)),
      fc.constantFrom(resume, suspend),
    );
    const others = inShop.filter(({ type }) => type !== 'CreateAiApiKey').map(elsewhere);

    holds<ApiKeyCommand, NonNullable<ApiKeyState>>({
      command: fc.oneof({ weight: 9, arbitrary: inShop }, { weight: 1, arbitrary: others }),
      addressed: (command, state) => {
        if (command.type !== 'RotateAiApiKey') return command;
        const next = rotate((state?.secretVersion ?? 0) + 1, command.overlapSeconds, command.idempotency?.keyHash);
        return { ...next, repoId: command.repoId };
      },
      decide: (command, state, now) => decideApiKey(command, state, now),
      after: (state, event, revision, at) =>
        evolveApiKey(state, decodeApiKeyEvent(recorded(apiKeyStream(apiKeyId), event, revision, at), revision)),
      expected: (done) => {
        const [first] = done;
        if (!first) return undefined;
        const { type: _, idempotency: __, ...created } = create;
        const doneBy = <Type extends ApiKeyCommand['type']>(...types: Type[]) =>
          done.filter((one): one is Done<ApiKeyCommand & { type: Type }> =>
            types.some((type) => type === one.command.type),
          );
        const updates = doneBy('UpdateAiApiKey').map(({ command }) => command);
        const secrets = doneBy('CreateAiApiKey', 'RotateAiApiKey');
        const version = secrets.length;
        const rotation = doneBy('RotateAiApiKey').at(-1);
        const end = doneBy('DeleteAiApiKey', 'RevokeLeakedAiApiKey').at(-1);
        const pauses = doneBy('SuspendAiApiKey', 'ResumeAiApiKey');
        const sinceSecret = done.slice(done.indexOf(secrets.at(-1) ?? first));
        return {
          ...created,
          name: updates.findLast(({ name }) => name !== undefined)?.name ?? created.name,
          expiresAt: updates.findLast((one) => one.expiresAt !== undefined)?.expiresAt ?? null,
          status: end ? 'deleted' : pauses.at(-1)?.command.type === 'SuspendAiApiKey' ? 'suspended' : 'active',
          createdAt: first.at,
          deletedAt: end?.at ?? null,
          secretVersion: version,
          secretHash: `hash ${version}`,
          sealedSecret: `sealed ${version}`,
          secretReplayable: !sinceSecret.some(({ command }) => command.type === 'SuspendAiApiKey'),
          oldSecret: rotation?.command.overlapSeconds
            ? {
                hash: `hash ${version - 1}`,
                goodUntil: secondsAfter(rotation.at, rotation.command.overlapSeconds),
              }
            : null,
          idempotencyRecords: given(secrets),
        };
      },
    });
  });

  it('a webhook is what was last said of each of its fields, and its events are all readable', () => {
    const change = fc.record(
      {
        url: fc.constantFrom(hook.target.url, 'https://v2.example/'),
        types: fc.constantFrom(null, ['ApiKeyDeleted']),
        description: fc.constantFrom(null, 'theirs'),
      },
      { requiredKeys: [] },
    );
    const inShop: fc.Arbitrary<WebhookCommand> = fc.oneof(
      fc.constantFrom(hook.register(), hook.register({ idempotency: undefined }), hook.remove),
      fc.constantFrom(
        hook.pause(),
        hook.pause('failing', 'no answer'),
        hook.resume,
        hook.replay(null),
        hook.replay('log:3'),
      ),
      fc.tuple(overlap, idempotencyKey).map(([seconds, key]) => hook.rotate(0, seconds, key)),
      change.map(hook.change),
    );
    const others = inShop.filter(({ type }) => type !== 'RegisterWebhook').map(elsewhere);

    holds<WebhookCommand, Webhook>({
      command: fc.oneof({ weight: 9, arbitrary: inShop }, { weight: 1, arbitrary: others }),
      addressed: (command, state) => {
        if (command.type !== 'RotateWebhookSecret') return command;
        const next = hook.rotate((state?.secretVersion ?? 0) + 1, command.overlapSeconds, command.idempotency?.keyHash);
        return { ...next, repoId: command.repoId };
      },
      decide: (command, state, now) => decideWebhook(command, state, now),
      after: (state, event, revision, at) =>
        evolveWebhook(
          state,
          decodeWebhookEvent(recorded(webhookStream(hook.webhookId), event, revision, at), revision),
        ),
      expected: (done) => {
        const [first] = done;
        if (!first) return undefined;
        const doneBy = <Type extends WebhookCommand['type']>(...types: Type[]) =>
          done.filter((one): one is Done<WebhookCommand & { type: Type }> =>
            types.some((type) => type === one.command.type),
          );
        const secrets = doneBy('RegisterWebhook', 'RotateWebhookSecret');
        const version = secrets.length;
        const rotation = doneBy('RotateWebhookSecret').at(-1);
        const isDeleted = doneBy('DeleteWebhook').length > 0;
        const pauses = doneBy('PauseWebhook', 'ResumeWebhook');
        const pause = pauses.at(-1)?.command;
        const isPaused = !isDeleted && pause?.type === 'PauseWebhook';
        const replay = doneBy('ReplayWebhook').at(-1)?.command;
        return {
          webhookId: hook.webhookId,
          repoId,
          ...hook.target,
          ...Object.assign(
            {},
            ...doneBy('ChangeWebhook').map(({ command: { url, types, description } }) =>
              defined({ url, types, description }),
            ),
          ),
          status: isDeleted ? 'deleted' : isPaused ? 'paused' : 'active',
          pausedBecause: isPaused ? { cause: pause.cause, reason: pause.reason } : null,
          createdAt: first.at,
          resumedAt: doneBy('ResumeWebhook').at(-1)?.at ?? null,
          replayedAfter: replay ? (replay.after ?? 'start') : null,
          secretVersion: version,
          ...hook.secretOf(version),
          oldSecret: rotation?.command.overlapSeconds
            ? {
                secretVersion: version - 1,
                ...hook.secretOf(version - 1),
                goodUntil: secondsAfter(rotation.at, rotation.command.overlapSeconds),
              }
            : null,
          idempotencyRecords: given(secrets),
        };
      },
    });
  });
});

const defined = (fields: object) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
