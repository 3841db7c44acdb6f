import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import { v4 as uuid } from 'uuid';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { KeyledgerError } from '../src/domain/errors.js';
import type { EventStore, NewEvent } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { Projector } from '../src/projections/projector.js';
import { Queries } from '../src/projections/queries.js';
import { type Checkpoint, logContains, type ReadModel, ReadModelLost } from '../src/projections/read-model.js';
import { verifyCredential } from '../src/projections/verify.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { eventually } from './support/assertions/eventually.js';
import { deleteAiApiKey, updateAiApiKey } from './support/fixtures/api-key-commands.js';
import { keySourceOf } from './support/fixtures/key-source.js';
import { withMethods } from './support/fixtures/log-with-methods.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { memoryReadModel } from './support/models/memory-read-model.js';

const logger = pino({ level: 'silent' });
const keyring = new Keyring(makeMasterKey('k1'));
const repoId = 'shop';

let folder: ReturnType<typeof temporaryFolder>;
let log: EventStore;
let readModel: ReadModel;
let projector: Projector;
const closing: (() => Promise<void>)[] = [];

const openLog = async (name: string) => {
  const opened = await openSqliteLog(join(folder.path, name), (error) => {
    throw error;
  });
  closing.push(() => opened.close());
  return opened;
};
/** Log failures that projectors reported. */
const failures: Error[] = [];
const logFailed = (error: Error) => void failures.push(error);
const readsOf = new WeakMap<Projector, Queries>();
const newProjector = (from: EventStore, into: ReadModel, clock = Date.now) =>
  new Projector({ log: from, folder: folder.path, readModel: into, logger, clock, onLogReplaced: logFailed });
const startProjector = (from: EventStore, into: ReadModel) => {
  const started = newProjector(from, into);
  readsOf.set(started, new Queries(started, into, Date.now, 300));
  started.start();
  closing.push(() => started.stop());
  return started;
};
const context = () => ({
  log,
  keyring,
  clock: Date.now,
  actor: { issuer: 'test', subject: 'ada' },
  requestId: 'request-1',
  from: '127.0.0.1',
  verified: true,
});
const create = (name: string) => createAiApiKey(context(), { repoId, name, aiType: 'OPENAI', expiresAt: null });
const names = async (model = readModel) => (await listed(model)).map(({ name }) => name);
const everything = { includeDeleted: false, before: undefined, size: 1000 };
const listed = (model: ReadModel) => model.list(repoId, everything);
/** Names of the keys in a list. */
const list = async (one: Projector, atLeast?: Position) => {
  const page = await readsOf.get(one)?.list(repoId, { includeDeleted: false, limit: 1000 }, atLeast);
  return page?.items.map(({ name }) => name);
};
const verify = (one: Projector, accessKey: string, secret: string) =>
  verifyCredential(
    one.status.verify.ok ? one.store.keyToVerify(accessKey)?.key : undefined,
    { accessKey, secret, canSee: () => true },
    Date.now(),
  );
const caughtUp = async (one = projector) => expect(await one.readModelProgress.waitFor(await log.end())).toBe(true);

/** Appends an event that this release does not write. */
async function appendRaw(apiKeyId: string, event: Partial<NewEvent>): Promise<void> {
  let last = -1;
  for await (const { revision } of log.readStream(apiKeyStream(apiKeyId))) last = revision;
  const rawEvent = { id: uuid(), type: 'ApiKeyDeleted', data: { apiKeyId, repoId }, metadata: {}, ...event };
  await log.append(apiKeyStream(apiKeyId), [rawEvent], last < 0 ? 'no-stream' : last);
}
const laterDeletion = {
  metadata: { schemaVersion: 99, occurredAt: '2030-01-01T00:00:00.000Z', by: 'a later release' },
};

beforeEach(async () => {
  folder = temporaryFolder();
  log = await openLog('log.db');
  readModel = memoryReadModel();
  projector = startProjector(log, readModel);
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  folder.remove();
  expect(failures).toEqual([]);
});

describe('the projector', () => {
  it('is ready over an empty log, and tells its position', async () => {
    await caughtUp();
    expect(projector.status.ready.ok).toBe(true);
    expect(projector.readModelProgress.position).toBe(await log.end());
    expect(projector.lag).toBe(0);
  });

  it('brings each change into list and verify index', async () => {
    const a = await create('a');
    const b = await create('b');
    await updateAiApiKey(context(), { repoId, apiKeyId: a.id, name: 'A' });
    await caughtUp();
    expect(await names()).toEqual(['b', 'A']);
    expect(verify(projector, a.key, a.secret)).toMatchObject({
      valid: true,
      key: { apiKeyId: a.id, name: 'A' },
    });
    expect(verify(projector, a.key, b.secret)).toEqual({ valid: false, reason: 'BAD_SECRET' });

    const { position } = await deleteAiApiKey(context(), { repoId, apiKeyId: a.id });
    expect(await projector.readModelProgress.waitFor(position)).toBe(true);
    expect(await names()).toEqual(['b']);
    expect(verify(projector, a.key, a.secret)).toEqual({ valid: false, reason: 'DELETED' });
  });

  it('keeps sealed secrets out of index and read model', async () => {
    const { key, secret } = await create('a');
    await caughtUp();
    expect(verify(projector, key, secret)).toMatchObject({ valid: true, key: { sealedSecret: '' } });
    expect(Object.keys((await listed(readModel))[0] ?? {})).not.toContain('secretHash');
  });

  it('starts from the log alone, and ends up with the same', async () => {
    for (const name of ['a', 'b', 'c']) await create(name);
    const again = memoryReadModel();
    await caughtUp(startProjector(log, again));
    await caughtUp();
    expect(await listed(again)).toEqual(await listed(readModel));
  });

  it('answers BEHIND for a position that does not arrive in time', async () => {
    await caughtUp();
    const end = await log.end();
    const beyond = `${end.slice(0, -1)}f` as typeof end;
    await expect(list(projector, beyond)).rejects.toMatchObject({ code: 'BEHIND' });
    await expect(list(projector, end)).resolves.toEqual([]);
  });
});

describe('an event that cannot be decoded', () => {
  it('fails closed: a broken deletion of a later version leaves a key that is neither good nor sound, and deletable', async () => {
    const broken = await create('broken');
    const sound = await create('sound');
    await appendRaw(broken.id, laterDeletion);
    await updateAiApiKey(context(), { repoId, apiKeyId: sound.id, name: 'still sound' });
    await caughtUp();

    expect(verify(projector, broken.key, broken.secret)).toEqual({
      valid: false,
      reason: 'UNAVAILABLE',
    });
    expect(await readModel.get(repoId, broken.id)).toMatchObject({ status: 'unavailable' });
    expect(projector.quarantined).toBe(1);
    await expect(updateAiApiKey(context(), { repoId, apiKeyId: broken.id, name: 'x' })).rejects.toMatchObject({
      code: 'KEY_QUARANTINED',
    });
    expect(verify(projector, sound.key, sound.secret).valid).toBe(true);
    expect(projector.status.ready.ok).toBe(true);

    await deleteAiApiKey(context(), { repoId, apiKeyId: broken.id });
    await caughtUp();
    expect(await names()).toEqual(['still sound']);
    expect(verify(projector, broken.key, broken.secret).valid).toBe(false);
    expect(projector.quarantined).toBe(0);
  });

  it('at the start of a stream is listed as unavailable and can be deleted', async () => {
    const apiKeyId = uuid();
    await appendRaw(apiKeyId, {
      type: 'ApiKeyCreated',
      data: { apiKeyId, repoId, key: 'of a later release' },
    });
    await caughtUp();
    expect(await listed(readModel)).toMatchObject([{ apiKeyId, status: 'unavailable', name: '(unreadable)' }]);
    await deleteAiApiKey(context(), { repoId, apiKeyId });
    await caughtUp();
    expect(await listed(readModel)).toEqual([]);
  });

  it('in a stream that no release of ours can have written is passed over, and counted', async () => {
    const { id } = await create('a');
    const streams = ['aiApiKey-hello', `aiApiKey-${uuid().toUpperCase()}`, 'aiApiKeyWebhook-1', 'auditAccess-x'];
    for (const stream of [...streams, 'webhook-1']) {
      const event = { id: uuid(), type: 'ApiKeyDeleted', data: { apiKeyId: id, repoId }, metadata: {} };
      await log.append(stream, [event], 'no-stream');
    }
    await create('b');
    await caughtUp();
    expect(await names()).toEqual(['b', 'a']);
    expect(projector.status.ready.ok).toBe(true);
    expect(projector.foreignEvents).toBe(5);
  });
});

describe('a read model that is not in this process', () => {
  it('that accepts nothing for a while answers UNAVAILABLE, never delays the verify index, and catches up', async () => {
    await projector.stop();
    readModel = memoryReadModel();
    let down = true;
    const flakyReadModel: ReadModel = {
      ...readModel,
      restore: (...all) => (down ? Promise.reject(new Error('gone')) : readModel.restore(...all)),
    };
    const next = startProjector(log, flakyReadModel);
    const a = await create('a');
    await eventually(() => verify(next, a.key, a.secret).valid);
    await eventually(() => next.status.ready.ok);
    await expect(list(next)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await create('b');
    await deleteAiApiKey(context(), { repoId, apiKeyId: a.id });
    down = false;
    await caughtUp(next);
    expect(await list(next)).toEqual(['b']);
  });

  it('that is built for the first time is waited for: until then no traffic should come, though keys are verified', async () => {
    await projector.stop();
    readModel = memoryReadModel();
    let build: () => void = () => undefined;
    const built = new Promise<void>((resolve) => {
      build = resolve;
    });
    const slow: ReadModel = {
      ...readModel,
      restore: (...all) => built.then(() => readModel.restore(...all)),
    };
    const next = startProjector(log, slow);
    const a = await create('a');
    const question = { accessKey: a.key, secret: a.secret, canSee: () => true };
    await eventually(() => next.status.verify.ok && next.indexProgress.hasReached(a.position));
    expect(await readsOf.get(next)?.verify(question)).toMatchObject({ result: { valid: true } });
    expect(next.status.ready).toMatchObject({ ok: false, reason: 'The read model is being built' });
    build();
    await eventually(() => next.status.ready.ok);
    await caughtUp(next);
    expect(await list(next)).toEqual(['a']);
  });

  it('that loses everything is never served as empty, and is restored', async () => {
    await projector.stop();
    let lost = false;
    const lossyReadModel: ReadModel = {
      ...readModel,
      list: (...all) => (lost ? Promise.reject(new ReadModelLost()) : readModel.list(...all)),
      restore: async (...all) => {
        lost = false;
        await readModel.restore(...all);
      },
    };
    const next = startProjector(log, lossyReadModel);
    await create('a');
    await caughtUp(next);
    await readModel.restore(keySourceOf(), async () => false);
    lost = true;
    await expect(list(next)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await eventually(async () => (await names()).length > 0 && next.status.list.ok);
    expect(await list(next)).toEqual(['a']);
  });

  it('that loses everything while it is written to is restored whole', async () => {
    await projector.stop();
    let lost = false;
    const lossyReadModel: ReadModel = {
      ...readModel,
      apply: async (...batch) => {
        if (lost) throw new ReadModelLost();
        await readModel.apply(...batch);
      },
      restore: async (...all) => {
        lost = false;
        await readModel.restore(...all);
      },
    };
    const next = startProjector(log, lossyReadModel);
    await create('a');
    await caughtUp(next);
    await readModel.restore(keySourceOf(), async () => false);
    lost = true;
    await create('b');
    await caughtUp(next);
    expect(await list(next)).toEqual(['b', 'a']);
  });

  it('learns what the log holds, so that it can recognise a restored log', async () => {
    const { position } = await create('a');
    await caughtUp();
    const checkpoint = await readModel.checkpoint(repoId);
    expect(checkpoint?.position).toBe(position);
    const holds = (checkpoint: Checkpoint) => logContains(log, checkpoint);
    const eventId = checkpoint?.eventId ?? '';
    expect(await holds({ position, eventId })).toBe(true);
    expect(await holds({ position, eventId: uuid() })).toBe(false);
    expect(await holds({ position: (uuid() + position.slice(36)) as Position, eventId })).toBe(false);
  });
});

describe('staleness', () => {
  it('stays small while the log is quiet, and grows while the log does not answer', async () => {
    await projector.stop();
    let now = 0;
    let silent = false;
    const quiet: EventStore = withMethods(log, {
      end: () => (silent ? Promise.reject(new Error('silent')) : log.end()),
    });
    const next = newProjector(quiet, readModel, () => now);
    next.start();
    closing.push(() => next.stop());
    await eventually(() => next.readModelProgress.position !== undefined);
    now = 60_000;
    await eventually(() => next.readModelProgress.staleness < 10);
    silent = true;
    now = 90_000;
    expect(next.readModelProgress.staleness).toBe(30);
  });
});

describe('verification', () => {
  const question = (key: string, secret: string) => ({ accessKey: key, secret, canSee: () => true });
  const readsFrom = (source: EventStore, clock: () => number, maxStaleness: number) => {
    const next = newProjector(source, readModel, clock);
    next.start();
    closing.push(() => next.stop());
    return { next, queries: new Queries(next, readModel, clock, maxStaleness) };
  };

  it('is refused until the whole log has been folded: what is missing may be a revocation', async () => {
    await projector.stop();
    const { key, secret, id, position } = await create('a');
    await deleteAiApiKey(context(), { repoId, apiKeyId: id });
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const halfway = withMethods(log, {
      async *subscribe(after, signal) {
        for await (const page of log.subscribe(after, signal)) {
          const [first] = page.events;
          if (first) yield { events: [first], position: first.position, caughtUp: false };
          await held;
          yield page;
        }
      },
    });
    const { next, queries } = readsFrom(halfway, Date.now, 300);
    await eventually(() => next.indexProgress.hasReached(position));
    await expect(queries.verify(question(key, secret))).rejects.toMatchObject({ code: 'STARTING' });
    goOn();
    await caughtUp(next);
    const { result } = await queries.verify(question(key, secret));
    expect(result).toEqual({ valid: false, reason: 'DELETED' });
  });

  it('is refused after too long without contact with the log, and works again when it answers', async () => {
    await projector.stop();
    const { key, secret } = await create('a');
    let now = Date.now();
    let silent = false;
    const quiet = withMethods(log, {
      end: () => (silent ? Promise.reject(new Error('silent')) : log.end()),
    });
    const { next, queries } = readsFrom(quiet, () => now, 300);
    await caughtUp(next);
    await eventually(() => queries.verifyStaleness < 10);
    silent = true;
    now += 200_000;
    expect((await queries.verify(question(key, secret))).result.valid).toBe(true);
    now += 200_000;
    await expect(queries.verify(question(key, secret))).rejects.toMatchObject({ code: 'STALE' });
    const never = new Queries(next, readModel, () => now, 0);
    expect((await never.verify(question(key, secret))).result.valid).toBe(true);
    silent = false;
    await eventually(() => queries.verifyStaleness < 10);
    expect((await queries.verify(question(key, secret))).result.valid).toBe(true);
  });
});

describe('a log that breaks', () => {
  it.each(['is gone', 'is another'])(
    'that comes back as it was once, where the last event %s, is no longer trusted',
    async (now) => {
      const { key, secret } = await create('a');
      await create('b');
      let breakDown = new AbortController();
      let isRestored = false;
      const source = withMethods(log, {
        async *subscribe(after, signal) {
          yield* log.subscribe(after, AbortSignal.any([signal, breakDown.signal]));
        },
        eventAt: async (position) => {
          const event = await log.eventAt(position);
          if (!event || !isRestored) return event;
          return now === 'is gone' ? undefined : { ...event, id: uuid() };
        },
      });
      const next = startProjector(source, memoryReadModel());
      await caughtUp(next);
      breakDown.abort();
      breakDown = new AbortController();
      await create('c');
      await caughtUp(next);
      expect(verify(next, key, secret)).toMatchObject({ valid: true });
      expect(failures).toEqual([]);

      isRestored = true;
      breakDown.abort();
      await eventually(() => failures.length > 0);
      expect(failures.splice(0)).toEqual([
        expect.objectContaining({ message: 'The log was restored from an older copy' }),
      ]);
      const queries = readsOf.get(next) as Queries;
      await expect(queries.verify({ accessKey: key, secret, canSee: () => true })).rejects.toThrow(
        'The log was restored from an older copy',
      );
      await expect(list(next)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    },
  );

  it('is not written to the read model before it is known to be the same log', async () => {
    let breakDown = new AbortController();
    let answered = Promise.resolve();
    let asked = 0;
    const source = withMethods(log, {
      async *subscribe(after, signal) {
        yield* log.subscribe(after, AbortSignal.any([signal, breakDown.signal]));
      },
      eventAt: async (position) => {
        asked++;
        await answered;
        return log.eventAt(position);
      },
    });
    const fresh = memoryReadModel();
    let applied = 0;
    const slow: ReadModel = {
      ...fresh,
      apply: async (items, checkpoint, signal) => {
        if (applied++ === 0) await new Promise((resolve) => signal?.addEventListener('abort', resolve));
        return fresh.apply(items, checkpoint, signal);
      },
    };
    const next = startProjector(source, slow);
    await caughtUp(next);
    await create('a');
    await eventually(() => applied === 1);

    let answer = () => {};
    answered = new Promise((resolve) => {
      answer = resolve;
    });
    const askedBefore = asked;
    breakDown.abort();
    breakDown = new AbortController();
    await eventually(() => asked > askedBefore);
    next.restoreReadModel();
    expect(applied).toBe(1);
    expect(await names(fresh)).toEqual([]);

    answer();
    await create('b');
    await caughtUp(next);
    expect(await names(fresh)).toEqual(['b', 'a']);
  });

  it('is subscribed to again where it was left, without a gap and without a repeat', async () => {
    await projector.stop();
    let breaks = 3;
    const breaking = withMethods(log, {
      async *subscribe(after, signal) {
        for await (const page of log.subscribe(after, signal)) {
          yield page;
          if (page.events.length > 0 && breaks-- > 0) throw new KeyledgerError('UNAVAILABLE');
        }
      },
    });
    const fresh = memoryReadModel();
    const seen: number[] = [];
    const counting: ReadModel = {
      ...fresh,
      apply: (items, checkpoint) => {
        seen.push(...items.map(({ revision }) => revision));
        return fresh.apply(items, checkpoint);
      },
      restore: async (source, ...rest) => {
        for await (const items of source.all(() => true)) seen.push(...items.map(({ revision }) => revision));
        return fresh.restore(source, ...rest);
      },
    };
    const next = startProjector(breaking, counting);
    const { id } = await create('0');
    for (let n = 1; n <= 5; n++) {
      const { position } = await updateAiApiKey(context(), { repoId, apiKeyId: id, name: String(n) });
      await eventually(
        () => next.readModelProgress.position !== undefined && next.readModelProgress.position >= position,
      );
    }
    expect(breaks).toBeLessThan(0);
    expect(seen).toEqual([0, 1, 2, 3, 4, 5]);
  });
});
