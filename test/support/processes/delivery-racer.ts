import { pino } from 'pino';
import { openSqliteDeliveryStore } from '../../../src/subscribers/webhooks/sqlite-delivery-store.js';

/**
 * Process that acquires as many of the leases 0 to 199 as it can, saves its name as the event of each, and prints those
 * that it holds.
 */
const [file = '', logId = '', instance = ''] = process.argv.slice(2);
const store = openSqliteDeliveryStore(file, logId, pino({ level: 'silent' }));
const held: string[] = [];
for (let n = 0; n < 200; n++) {
  const id = String(n);
  if (!(await store.acquireLeases(instance, [id], 600_000)).has(id)) continue;
  held.push(id);
  const cursor = { position: null, eventId: instance, replay: -1, failing: null };
  if (!(await store.save(instance, id, cursor))) throw new Error(`The save of ${id} was refused`);
}
await store.close();
process.stdout.write(JSON.stringify(held));
