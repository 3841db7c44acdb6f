import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { pino } from 'pino';
import { v4 as uuid } from 'uuid';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import type { EventStore } from '../src/event-store/event-store.js';
import type { Position } from '../src/event-store/position.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { Projector } from '../src/projections/projector.js';
import { type ReadModel, ReadModelLost } from '../src/projections/read-model.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { eventually } from './support/assertions/eventually.js';
import { updateAiApiKey } from './support/fixtures/api-key-commands.js';
import { keySourceOf } from './support/fixtures/key-source.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { memoryReadModel } from './support/models/memory-read-model.js';

/**
 * The projector over a read model whose writes each wait until the test settles them, while the log grows; a write may
 * fail or lose all data. The model: what the projector reports as listed is listed.
 */

/** Outcome of the waiting write, if there is one. */
type WriteOutcome = 'done' | 'failed' | 'lost';
type Step = { readonly do: 'create' } | { readonly do: 'rename'; readonly key: number } | { readonly do: WriteOutcome };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant<'create'>('create') }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant<'rename'>('rename'), key: fc.nat(5) }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constantFrom<WriteOutcome>('done', 'done', 'failed', 'lost') }),
  },
);

const logger = pino({ level: 'silent' });
const keyring = new Keyring(makeMasterKey('k1'));
const folder = temporaryFolder();
let log: EventStore;
const fail = (error: Error) => {
  throw error;
};
beforeAll(async () => {
  log = await openSqliteLog(join(folder.path, 'log.db'), fail);
});
afterAll(async () => {
  await log.close();
  folder.remove();
});

/** A read model in memory whose writes wait for the test to decide their outcome. */
function controlledReadModel() {
  const inner = memoryReadModel();
  const waiting: ((outcome: WriteOutcome) => void)[] = [];
  let isOpen = false;
  let isLost = false;
  const held =
    <Args extends unknown[]>(write: (...args: Args) => Promise<void>) =>
    async (...args: Args): Promise<void> => {
      const outcome = isOpen ? 'done' : await new Promise<WriteOutcome>((resolve) => waiting.push(resolve));
      if (outcome === 'failed') throw new Error('gone');
      if (outcome === 'done') return write(...args);
      isLost = true;
      await inner.restore(keySourceOf(), async () => false);
      throw new ReadModelLost();
    };
  const restore: ReadModel['restore'] = async (...all) => {
    await inner.restore(...all);
    isLost = false;
  };
  const readModel: ReadModel = { ...inner, apply: held(inner.apply), restore: held(restore) };
  return {
    readModel,
    /** Whether reads would report a loss. */
    isLost: () => isLost,
    settleWrite: (outcome: WriteOutcome) => waiting.shift()?.(outcome),
    open: () => {
      isOpen = true;
      for (const go of waiting.splice(0)) go('done');
    },
  };
}

it('what is said to be listed is listed, however slow the read model is, and whatever it loses', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const repoId = uuid();
      const { readModel, isLost, settleWrite, open } = controlledReadModel();
      const projector = new Projector({
        log,
        folder: folder.path,
        readModel,
        logger,
        clock: Date.now,
        onLogReplaced: fail,
      });
      const changes: { readonly apiKeyId: string; readonly position: Position }[] = [];
      const context = {
        ...{ log, keyring, clock: Date.now, actor: { issuer: 'test', subject: 'ada' } },
        ...{ requestId: 'r', from: '127.0.0.1', verified: true },
      };
      const change = async (one: Step & { do: 'create' | 'rename' }): Promise<void> => {
        const key = one.do === 'rename' ? changes[one.key % changes.length] : undefined;
        if (key) {
          const { apiKeyId } = key;
          const { position } = await updateAiApiKey(context, { repoId, apiKeyId, name: uuid() });
          changes.push({ apiKeyId, position });
        } else {
          const wanted = { repoId, name: 'search', aiType: 'OPENAI' as const, expiresAt: null };
          const { id, position } = await createAiApiKey(context, wanted);
          changes.push({ apiKeyId: id, position });
        }
        await eventually(() => projector.indexProgress.hasReached(changes.at(-1)?.position as Position));
      };
      const check = async () => {
        for (const { apiKeyId, position } of changes) {
          if (!projector.status.list.ok || isLost()) return;
          if (!projector.readModelProgress.hasReached(position)) continue;
          const item = await readModel.get(repoId, apiKeyId);
          expect((item?.position ?? '') >= position).toBe(true);
        }
      };
      projector.start();
      try {
        for (const one of steps) {
          if (one.do === 'create' || one.do === 'rename') await change(one);
          else settleWrite(one.do);
          await check();
        }
        open();
        const end = await log.end();
        await eventually(() => projector.readModelProgress.hasReached(end) && projector.status.list.ok);
        expect(isLost()).toBe(false);
        await check();
      } finally {
        open();
        await projector.stop();
      }
    }),
    { numRuns: 150, interruptAfterTimeLimit: 60_000 },
  );
}, 120_000);
