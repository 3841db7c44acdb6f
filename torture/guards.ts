import type { SetUp } from './world.js';

/** Guard of the service: how to take it out of the built code, and which check of the torture must notice. */
export type Guard = {
  readonly guard: string;
  /** File in dist/src. It must contain the text exactly once. */
  readonly file: string;
  readonly text: string;
  readonly instead: string;
  readonly log: SetUp['log'];
  readonly readModel: SetUp['readModel'];
  readonly noticedBy: string;
};

const onSqlite = { log: 'sqlite', readModel: 'memory' } as const;
const onRedis = { log: 'sqlite', readModel: 'redis' } as const;
const onEventStoreDb = { log: 'eventstoredb', readModel: 'memory' } as const;

export const GUARDS: readonly Guard[] = [
  {
    guard: 'an append expects a revision',
    file: 'event-store/sqlite/writer.js',
    text: 'if (expectedRevision !== actualRevision)',
    instead: 'if (false)',
    ...onSqlite,
    noticedBy: 'changes',
  },
  {
    guard: 'the id of a key is made from its Idempotency-Key',
    file: 'commands/api-keys/create-ai-api-key.js',
    text: 'uuidV5(JSON.stringify([repoId, issuer, subject, idempotencyKey]), KEY_IDS)',
    instead: 'uuidV4()',
    ...onSqlite,
    noticedBy: 'idempotency',
  },
  {
    guard: 'a secret is sealed',
    file: 'security/keyring.js',
    text: "[FORMAT, masterKeyId, nonce.toString('base64url'), sealed.toString('base64url')].join('.')",
    instead: 'secret',
    ...onSqlite,
    noticedBy: 'secrets',
  },
  {
    guard: 'a deleted key is refused',
    file: 'projections/verify.js',
    text: "return invalid('DELETED');",
    instead: 'return { valid: true, key };',
    ...onSqlite,
    noticedBy: 'reads',
  },
  {
    guard: 'a secret replaced without an overlap is invalid',
    file: 'domain/ai-api-key.js',
    text: 'overlapEndsAt === null ? null : { hash: key.secretHash, goodUntil: overlapEndsAt }',
    instead: "{ hash: key.secretHash, goodUntil: overlapEndsAt ?? '2999-01-01T00:00:00.000Z' }",
    ...onSqlite,
    noticedBy: 'reads',
  },
  {
    guard: 'an unreadable event puts the key in quarantine',
    file: 'domain/ai-api-key.js',
    text: "case 'Unreadable':\n            return unavailable;",
    instead: "case 'Unreadable':\n            return state;",
    ...onSqlite,
    noticedBy: 'reads',
  },
  {
    guard: 'a verification waits for its minimum position',
    file: 'projections/queries.js',
    text: 'if (!(await this.#projector.indexProgress.waitFor(position)))\n            throw new KeyledgerError',
    instead: 'if (false)\n            throw new KeyledgerError',
    ...onSqlite,
    noticedBy: 'reads',
  },
  {
    guard: 'a subscription has no gaps',
    file: 'event-store/sqlite/log.js',
    text: 'last = place;',
    instead: 'last = place + (batch.events.length > 3 ? 1 : 0);',
    ...onSqlite,
    noticedBy: 'feed',
  },
  {
    guard: 'a resume token names the event, too',
    file: 'event-store/resume-token.js',
    text: 'if (!event || resumeTokenOf(event) !== text)',
    instead: 'if (false)',
    ...onSqlite,
    noticedBy: 'feed',
  },
  {
    guard: 'a reader resumes after what it has received',
    file: 'sdk/client/follow-messages.js',
    text: 'id = next;',
    instead: ';',
    ...onSqlite,
    noticedBy: 'feed',
  },
  {
    guard: 'Redis is not trusted when it lags what it held before',
    file: 'projections/redis/scripts.js',
    text: "if at < ARGV[2] then return 'LOST' end",
    instead: '',
    ...onRedis,
    noticedBy: 'reads',
  },
  {
    guard: 'Redis is not trusted when the log does not hold its last event',
    file: 'projections/redis/partition-model.js',
    text: 'const isSound = at !== undefined && (await holds(at));',
    instead: 'const isSound = at !== undefined;',
    ...onRedis,
    noticedBy: 'reads',
  },
  {
    guard: 'a command to Redis has a timeout',
    file: 'redis/connection.js',
    text: 'const COMMAND_TIMEOUT_MS = 2000;',
    instead: 'const COMMAND_TIMEOUT_MS = 60000;',
    ...onRedis,
    noticedBy: 'hangs',
  },
  {
    guard: 'an instance ends when its log was restored',
    file: 'projections/projector.js',
    text: 'if (!(await logContinues(this.#log, file.store.checkpoint)))',
    instead: 'if (false)',
    ...onEventStoreDb,
    noticedBy: 'reads',
  },
  {
    guard: 'a broken subscription is restarted',
    file: 'projections/projector.js',
    text: 'await backOff(what, error, failures, this.#logger, signal);',
    instead: 'return;',
    ...onEventStoreDb,
    noticedBy: 'read models',
  },
  {
    guard: 'an unavailable log ends no instance',
    file: 'projections/poll-log-end.js',
    text: "logger.debug({ err: error }, 'The end of the log is unknown');",
    instead: 'throw error;',
    ...onEventStoreDb,
    noticedBy: 'ended by itself',
  },
  {
    guard: 'an unknown outcome is not reported as not done',
    file: 'event-store/eventstoredb/retry.js',
    text: "mayBeDone ? 'OUTCOME_UNKNOWN' : 'UNAVAILABLE'",
    instead: "'UNAVAILABLE'",
    ...onEventStoreDb,
    noticedBy: 'changes',
  },
  {
    guard: 'a repeated append has the same ids',
    file: 'event-store/eventstoredb/event-mapping.js',
    text: '({ id, type, data, metadata }) => jsonEvent({ id,',
    instead: '({ type, data, metadata }) => jsonEvent({ id: crypto.randomUUID(),',
    ...onEventStoreDb,
    noticedBy: 'changes',
  },
  {
    guard: 'a call to EventStoreDB has a timeout',
    file: 'event-store/eventstoredb/retry.js',
    text: 'const CALL_TIMEOUT_MS = 4500;',
    instead: 'const CALL_TIMEOUT_MS = 60000;',
    ...onEventStoreDb,
    noticedBy: 'hangs',
  },
  {
    guard: 'an instance reports its staleness',
    file: 'staleness-clock.js',
    text: 'return Math.max(0, clock - this.#currentAsOf.clock, steady - this.#currentAsOf.steady) / 1000;',
    instead: 'return 0;',
    ...onEventStoreDb,
    noticedBy: 'reads',
  },
];
