import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { createAiApiKey } from '../src/commands/api-keys/create-ai-api-key.js';
import type { EventStore } from '../src/event-store/event-store.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { Keyring, makeMasterKey } from '../src/security/keyring.js';
import { freshFolder } from './support/fixtures/temp-folder.js';

it('a log that shows a little later what it has refused an append by is waited for', async () => {
  const folder = freshFolder();
  const log = await openSqliteLog(join(folder.path, 'log.db'), (error) => {
    throw error;
  });
  let blindReads = 0;
  const late: EventStore = Object.create(log, {
    logId: { value: log.logId },
    append: { value: log.append.bind(log) },
    readStream: {
      value: async function* (stream: string) {
        if (blindReads-- <= 0) yield* log.readStream(stream);
      },
    },
  });
  const context = {
    ...{ log: late, keyring: new Keyring(makeMasterKey('k1')), clock: Date.now },
    ...{ actor: { issuer: 'test', subject: 'ada' }, requestId: 'r', from: '127.0.0.1', verified: true },
  };
  const wanted = {
    repoId: 'shop',
    name: 'search',
    aiType: 'OPENAI',
    expiresAt: null,
    idempotencyKey: 'x',
  } as const;
  const first = await createAiApiKey(context, wanted);
  blindReads = 12;
  const { id, secret } = await createAiApiKey(context, wanted);
  expect({ id, secret }).toEqual({ id: first.id, secret: first.secret });
  await log.close();
  folder.remove();
});
