import { EventStoreDBClient, jsonEvent, NO_STREAM, START, streamNameFilter } from '@eventstore/db-client';
import { v4 as uuid } from 'uuid';
import { API_KEY_CATEGORY, apiKeyStream } from '../src/domain/ai-api-key.js';
import { openEventStore } from '../src/event-store/open.js';
import { median } from './load.js';

/**
 * The EventStoreDB adapter beside the bare client, interleaved in one run: appends with 64 in flight, and catching up
 * with them. Both use uncompressed answers. Needs a server of its own: it leaves streams that are no keys.
 */
const ROUNDS = 5;
const APPENDS = 3_000;
const IN_FLIGHT = 64;
const url = process.env['EVENTSTORE_TEST_URL'];
if (!url) throw new Error('Set EVENTSTORE_TEST_URL, for example to esdb://127.0.0.1:2113?tls=false');

const log = await openEventStore(url, { onFatal: (error) => console.error(error), warn: console.error });
const client = EventStoreDBClient.connectionString(url);
const data = { text: 'x'.repeat(500) };
const metadata = { by: 'bench' };
const oursOnce = async () => {
  const result = await log.append(apiKeyStream(uuid()), [{ id: uuid(), type: 'Benched', data, metadata }], 'no-stream');
  if (!result.appended) throw new Error('A conflict');
};
const bareOnce = () =>
  client.appendToStream(apiKeyStream(uuid()), jsonEvent({ id: uuid(), type: 'Benched', data, metadata }), {
    expectedRevision: NO_STREAM,
  });

async function rate(once: () => Promise<unknown>): Promise<number> {
  let left = APPENDS;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (left-- > 0) await once();
    }),
  );
  return (APPENDS * 1000) / (performance.now() - started);
}

async function oursCatchUp(): Promise<number> {
  let events = 0;
  const started = performance.now();
  for await (const _ of log.readAll()) events++;
  return (events * 1000) / (performance.now() - started);
}

async function bareCatchUp(): Promise<number> {
  let events = 0;
  const started = performance.now();
  const subscription = client.subscribeToAll({
    fromPosition: START,
    filter: streamNameFilter({ prefixes: [API_KEY_CATEGORY] }),
  });
  await new Promise<void>((resolve) => {
    subscription.on('data', () => void events++);
    subscription.on('caughtUp', resolve);
  });
  const perSecond = (events * 1000) / (performance.now() - started);
  await subscription.unsubscribe();
  return perSecond;
}

const compared: [string, () => Promise<number>, () => Promise<number>][] = [
  [`appends/s, ${IN_FLIGHT} in flight`, () => rate(oursOnce), () => rate(bareOnce)],
  ['catch-up, events/s', oursCatchUp, bareCatchUp],
];
for (const [name, ours, bare] of compared) {
  await ours();
  await bare();
  const rounds: [number, number][] = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push([await ours(), await bare()]);
  const [mine, theirs] = [rounds.map(([a]) => a), rounds.map(([, b]) => b)];
  const ratio = median(rounds.map(([a, b]) => a / b));
  const spread = (values: number[]) =>
    `${median(values).toFixed(0)} (min ${Math.min(...values).toFixed(0)}, max ${Math.max(...values).toFixed(0)})`;
  console.log(`${name}: ours ${spread(mine)}, bare client ${spread(theirs)}, ratio ${ratio.toFixed(2)}`);
}
await log.close();
await client.dispose();
