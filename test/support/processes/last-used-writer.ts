import { pino } from 'pino';
import { LastUsedTracker } from '../../../src/last-used/last-used-tracker.js';
import { openSqliteLastUsedStore } from '../../../src/last-used/sqlite-last-used.js';
import { eventually } from '../assertions/eventually.js';

/** A process that uses 2,000 keys at a given time, and ends when every use is in the file. */
const [file = '', at = '0'] = process.argv.slice(2);
const logger = pino({ level: 'silent' });
const lastUsedTracker = new LastUsedTracker(openSqliteLastUsedStore(file, logger), logger, 5);
const ids = Array.from({ length: 2_000 }, (_, n) => `key-${n}`);
for (const id of ids) lastUsedTracker.record(id, Number(at));
const look = openSqliteLastUsedStore(file, logger);
await eventually(async () => {
  const found = await look.read(ids).catch(() => new Map<string, number>());
  return ids.every((id) => (found.get(id) ?? 0) >= Number(at));
});
await look.close();
await lastUsedTracker.stop();
