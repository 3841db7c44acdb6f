import { join } from 'node:path';
import { afterAll, beforeAll, it } from '@jest/globals';
import fc from 'fast-check';
import type { EventStore } from '../src/event-store/event-store.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { Life, step } from './support/models/life.js';

const folder = freshFolder();
let log: EventStore;
beforeAll(async () => {
  log = await openSqliteLog(join(folder.path, 'log.db'), (error) => {
    throw error;
  });
});
afterAll(async () => {
  await log.close();
  folder.remove();
});

it('whatever is done to keys, whenever and how often, they are what a simple model says', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const life = new Life(log, await log.end());
      for (const one of steps) await life.take(one);
      await life.checkLog();
    }),
    { numRuns: 500 },
  );
}, 60_000);
