import type { Redis } from 'ioredis';
import { openEventStore } from '../src/event-store/open.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import { rebuild } from '../src/maintenance/rebuild.js';
import { type ApiKeyEntry, evolveApiKeyEntry } from '../src/projections/api-key-entry.js';
import { type ListItem, toListItem } from '../src/projections/list-item.js';
import { sortedSetMember, toDocument } from '../src/projections/redis/generations.js';
import { READ_MODEL_SCRIPTS } from '../src/projections/redis/scripts.js';
import { connectRedis } from '../src/redis/connection.js';
import { loadSettings } from '../src/settings.js';

/**
 * A rebuild of the read model beside its two lower bounds: reading the whole log and discarding it, and writing the
 * same documents and lists by hand, in pipelines of plain commands. The log is that of EVENT_STORE_URL (bench:make-log
 * makes one), the Redis that of READ_MODEL_URL.
 */
const ROUNDS = Number(process.argv[2] ?? 3);
const PIPELINE = 2_000;
const { EVENT_STORE_URL, EVENT_STORE_PREFIX, READ_MODEL_URL } = loadSettings(process.env);
const prefix = `bench-${process.pid}`;
const failed = (error: Error) => {
  throw error;
};
const log = await openEventStore(EVENT_STORE_URL, {
  prefix: EVENT_STORE_PREFIX,
  onFatal: failed,
  warn: console.error,
});
const redis = connectRedis(READ_MODEL_URL, READ_MODEL_SCRIPTS) as Redis;
while (redis.status !== 'ready') await new Promise((resolve) => redis.once('ready', resolve));

async function seconds(what: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await what();
  return (performance.now() - started) / 1000;
}

async function byHand(items: readonly ListItem[]): Promise<void> {
  for (let from = 0; from < items.length; from += PIPELINE) {
    const pipeline = redis.pipeline();
    for (const item of items.slice(from, from + PIPELINE)) {
      const { repoId, apiKeyId } = item;
      pipeline.sadd(`${prefix}:hand:repos`, repoId);
      pipeline.hset(`${prefix}:hand:items:${repoId}`, apiKeyId, toDocument(item));
      pipeline.zadd(`${prefix}:hand:all:${repoId}`, 0, sortedSetMember(item));
      if (item.status !== 'deleted') pipeline.zadd(`${prefix}:hand:list:${repoId}`, 0, sortedSetMember(item));
    }
    await pipeline.exec();
  }
}

async function remove(): Promise<void> {
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1000 }))
    await Promise.all((keys as string[]).map((key) => redis.unlink(key)));
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;
const formatCount = (value: number) => Math.round(value).toLocaleString('en');

let events = 0;
const entries = new Map<string, ApiKeyEntry>();
for await (const event of log.readAll()) {
  events++;
  const { stream } = event;
  if (apiKeyIdOf(stream) !== undefined) entries.set(stream, evolveApiKeyEntry(entries.get(stream), event));
}
const items = [...entries.values()].map(toListItem);

const times: Record<'reading' | 'writing' | 'rebuilding', number[]> = {
  reading: [],
  writing: [],
  rebuilding: [],
};
for (let round = 1; round <= ROUNDS; round++) {
  times.reading.push(
    await seconds(async () => {
      for await (const _ of log.readAll());
    }),
  );
  times.writing.push(await seconds(() => byHand(items)));
  times.rebuilding.push(
    await seconds(() => rebuild(log, redis, prefix, { onFold: () => undefined, onWrite: () => undefined })),
  );
  await remove();
}
const [reading, writing, rebuilding] = [median(times.reading), median(times.writing), median(times.rebuilding)];
console.log(`${formatCount(events)} events, ${formatCount(items.length)} keys, medians of ${ROUNDS} rounds`);
console.log(`bare readAll            ${formatCount(events / reading)} events/s (${reading.toFixed(1)} s)`);
console.log(`Redis pipeline by hand  ${formatCount(events / writing)} events/s (${writing.toFixed(1)} s)`);
console.log(`rebuild                 ${formatCount(events / rebuilding)} events/s (${rebuilding.toFixed(1)} s)`);
console.log(`ratio to the slower     ${(Math.max(reading, writing) / rebuilding).toFixed(2)}`);
redis.disconnect();
await log.close();
