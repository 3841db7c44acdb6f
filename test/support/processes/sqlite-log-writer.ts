import { v4 as uuid } from 'uuid';
import { apiKeyStream } from '../../../src/domain/ai-api-key.js';
import { KeyledgerError } from '../../../src/domain/errors.js';
import { openSqliteLog } from '../../../src/event-store/sqlite/log.js';

/**
 * A process that appends to a log, for the tests of the SQLite log: each event to a stream of its own,
 * eight at a time, until an append is refused, so many times over. Prints a line for each answer.
 */
const [file = '', limit = '0', bytes = '1'] = process.argv.slice(2);
const say = (...words: string[]) => process.stdout.write(`${words.join(' ')}\n`);
const log = await openSqliteLog(file, (error) => say('fatal', error.message));
say('open', log.logId);
let left = Number(limit);
let refusals = 0;
const data = { text: 'x'.repeat(Number(bytes)) };
await Promise.all(
  Array.from({ length: 8 }, async () => {
    while (left-- > 0 && refusals < 20) {
      const id = uuid();
      try {
        await log.append(apiKeyStream(id), [{ id, type: 'Tested', data, metadata: {} }], 'no-stream');
        say('appended', id);
      } catch (error) {
        refusals++;
        say('refused', error instanceof KeyledgerError ? error.code : String(error));
      }
    }
  }),
);
await log.close().catch((error) => say('close', error.message));
say('end');
