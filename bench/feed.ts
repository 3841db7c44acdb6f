import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { load, post } from './load.js';
import { services } from './service.js';

/**
 * The change feed: memory of idle readers; events that readers receive who disconnect at random and resume; the
 * service's memory while one reader never reads. The log is that of EVENT_STORE_URL, or the default.
 */
const IDLE = 1_000;
const EVENTS = 100_000;
const READERS = 5;
const CREATORS = 32;
/** Maximum number of events after which a reader disconnects; the actual number is random. */
const STAYS = 5_000;
/** Milliseconds that one reader does not read; the service disconnects it earlier. */
const STALL_MS = 45_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));
const MIB = 1024 * 1024;

const instances = services();
const repo = instances.run;
const service = await instances.start();
const { hostname, port } = new URL(service.url);
const token = await instances.token('admin', repo);
const headers = { authorization: `Bearer ${token}` };

async function memoryOf(): Promise<{ readonly rss: number; readonly heap: number }> {
  const text = await (await fetch(`${service.url}/metrics`)).text();
  const value = (name: string) => Number(new RegExp(`^${name} (.+)$`, 'm').exec(text)?.[1]) / MIB;
  const heap = value('nodejs_heap_size_used_bytes') + value('nodejs_external_memory_bytes');
  return { rss: value('process_resident_memory_bytes'), heap };
}

/** Memory after garbage collection: the minimum of several samples. */
async function memoryAfterGc() {
  let least = await memoryOf();
  for (let i = 0; i < 30; i++) {
    await setTimeout(200);
    const now = await memoryOf();
    least = { rss: Math.min(least.rss, now.rss), heap: Math.min(least.heap, now.heap) };
  }
  return least;
}

function openFeed(query: string): Promise<Socket> {
  const socket = connect({ host: hostname, port: Number(port) });
  socket.write(`GET /events${query} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  return new Promise((resolve, reject) => {
    socket.on('error', reject).once('data', () => resolve(socket));
  });
}

/** Reads the feed from its first event, disconnecting at random, until it has `count` events. */
async function readWithReconnects(count: number): Promise<{ readonly ids: string[]; readonly connections: number }> {
  const ids: string[] = [];
  let last: string | undefined;
  let connections = 0;
  while (ids.length < count) {
    const leaving = new AbortController();
    const leaveAt = ids.length + Math.ceil(Math.random() * STAYS);
    connections++;
    const response = await fetch(`${service.url}/events?after=start`, {
      headers: last === undefined ? headers : { ...headers, 'last-event-id': last },
      signal: leaving.signal,
    });
    let text = '';
    const decoder = new TextDecoder();
    try {
      for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += decoder.decode(bytes, { stream: true });
        const messages = text.split('\n\n');
        text = messages.pop() ?? '';
        for (const message of messages) {
          const [, id] = /^id: (.+)$/m.exec(message) ?? [];
          const [, eventId] = /^data: \{"specversion":"1\.0","id":"([^"]+)"/m.exec(message) ?? [];
          if (eventId && !/^event:/m.test(message)) ids.push(eventId);
          last = id ?? last;
          if (ids.length === leaveAt || ids.length === count) leaving.abort();
          if (leaving.signal.aborted) break;
        }
      }
    } catch (error) {
      if (!leaving.signal.aborted) throw error;
    }
  }
  return { ids, connections };
}

/** Ids of all events in log order, read in pages. */
async function everyEvent(): Promise<string[]> {
  const ids: string[] = [];
  for (let after = 'start'; ; ) {
    const response = await fetch(`${service.url}/events?limit=1000&after=${after}`, {
      headers: { ...headers, accept: 'application/json' },
    });
    const { events, next } = (await response.json()) as { events: { id: string }[]; next: string };
    ids.push(...events.map(({ id }) => id));
    if (events.length < 1000) return ids;
    after = next;
  }
}

try {
  progress(`${IDLE} idle readers`);
  const warm = await Promise.all(Array.from({ length: 50 }, () => openFeed('')));
  for (const socket of warm) socket.destroy();
  const before = await memoryAfterGc();
  const idle = await Promise.all(Array.from({ length: IDLE }, () => openFeed('')));
  const after = await memoryAfterGc();
  for (const socket of idle) socket.destroy();
  const perIdle = {
    rssKiB: ((after.rss - before.rss) * 1024) / IDLE,
    heapKiB: ((after.heap - before.heap) * 1024) / IDLE,
  };

  const began = performance.now();
  const creation = post(service.url, `/repo/${repo}/ai/apikey`, headers, {
    name: 'search',
    aiType: 'OPENAI',
  });
  const [{ seconds }, ...readers] = await Promise.all([
    load(service.url, new Array<Buffer>(EVENTS).fill(creation), CREATORS),
    ...Array.from({ length: READERS }, () => readWithReconnects(EVENTS)),
  ]);
  const readInSeconds = (performance.now() - began) / 1000;
  const truth = await everyEvent();
  const stuck = await openFeed('?after=start');
  stuck.pause();
  const memory: { seconds: number; rss: number; heap: number }[] = [];
  for (const until = performance.now() + STALL_MS; performance.now() < until; await setTimeout(5000)) {
    const { rss, heap } = await memoryOf();
    memory.push({ seconds: memory.length * 5, rss: Math.round(rss), heap: Math.round(heap) });
    progress(`a reader that never reads: ${rss.toFixed(0)} MiB`);
  }
  let lastWords = '';
  stuck.setEncoding('utf8').on('data', (text) => {
    lastWords = (lastWords + text).slice(-1000);
  });
  stuck.resume();
  await once(stuck, 'close');
  const exact = readers.filter(({ ids }) => ids.join() === truth.join()).length;
  const result = {
    idleFeeds: IDLE,
    perIdle,
    events: truth.length,
    createdInSeconds: seconds,
    readInSeconds,
    readers: READERS,
    connections: readers.map(({ connections }) => connections),
    sawEachOnceAndInOrder: exact,
    memory,
    stuckReaderHeard: /event: end\ndata: (.*)/.exec(lastWords)?.[1] ?? null,
  };
  progress('');
  if (json) console.log(JSON.stringify(result));
  else {
    console.log(
      `${IDLE} idle feeds: ${perIdle.rssKiB.toFixed(1)} KiB of RSS and ${perIdle.heapKiB.toFixed(1)} KiB of heap each`,
    );
    console.log(
      `${truth.length} events created in ${seconds.toFixed(1)} s and read in ${readInSeconds.toFixed(1)} s; ${exact} of ${READERS} readers, who connected ${result.connections.join(', ')} times, saw each once and in order`,
    );
    console.log('RSS while one reader never reads:');
    for (const { seconds, rss, heap } of memory) console.log(`  ${seconds} s  ${rss} MiB, heap ${heap} MiB`);
    console.log(`it heard at last: ${result.stuckReaderHeard}`);
  }
} finally {
  await instances.remove();
}
