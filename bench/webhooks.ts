import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { load, post } from './load.js';
import { services } from './service.js';

/**
 * Webhooks: calls a second to one endpoint beside a bare loop of POSTs over one connection; then repeated kill -9 of
 * the service while it delivers to an endpoint that fails a third of its calls.
 */
const CALLS = 5_000;
const EVENTS = 300;
const KILL_AFTER_MS = 15_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const instances = services({ WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1/32' });
const token = await instances.token('admin', '*');
const headers = { authorization: `Bearer ${token}` };

type Received = {
  readonly path: string;
  readonly id: string;
  readonly at: number;
  readonly accepted: boolean;
};
const received: Received[] = [];
let failing = false;
const receiver = createServer(async (incoming, response) => {
  for await (const _ of incoming);
  const accepted = !failing || Math.random() > 1 / 3;
  const id = String(incoming.headers['webhook-id']);
  received.push({ path: incoming.url ?? '', id, at: performance.now(), accepted });
  response.writeHead(accepted ? 200 : 500).end();
});
await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
const address = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;

let service = await instances.start();
const { run } = instances;
async function register(repoId: string): Promise<string> {
  const response = await fetch(`${service.url}/repo/${repoId}/webhook`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ url: `${address}/${repoId}` }),
  });
  if (response.status !== 201) throw new Error(await response.text());
  return ((await response.json()) as { id: string }).id;
}
const create = (repoId: string, count: number) => {
  const creation = post(service.url, `/repo/${repoId}/ai/apikey`, headers, { name: 'x', aiType: 'AWS' });
  return load(service.url, new Array<Buffer>(count).fill(creation), 8);
};
const of = (repoId: string) => received.filter(({ path }) => path === `/${repoId}`);
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setTimeout(5);
}

/** Every event of a repository, in log order. */
async function eventsOf(repoId: string): Promise<string[]> {
  const response = await fetch(`${service.url}/events?after=start&limit=1000&repo=${repoId}&type=ApiKeyCreated`, {
    headers: { ...headers, accept: 'application/json' },
  });
  return ((await response.json()) as { events: { id: string }[] }).events.map(({ id }) => id);
}

async function bareLoop(body: string, count: number): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const began = performance.now();
  for (let n = 0; n < count; n++) {
    await new Promise<void>((resolve, reject) => {
      const options = {
        method: 'POST',
        agent,
        headers: { 'content-length': body.length, 'webhook-id': String(n) },
      };
      request(`${address}/bare`, options, (response) => response.resume().on('end', resolve))
        .on('error', reject)
        .end(body);
    });
  }
  agent.destroy();
  return count / ((performance.now() - began) / 1000);
}

try {
  const fast = `fast-${run}`;
  await create(fast, CALLS);
  const webhook = await register(fast);
  await fetch(`${service.url}/repo/${fast}/webhook/${webhook}/replay`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: '{"after":"start"}',
  });
  progress(`${CALLS} calls`);
  await until(() => of(fast).length >= CALLS);
  const calls = of(fast);
  const [first, last] = [calls[0]?.at ?? 0, calls[CALLS - 1]?.at ?? 0];
  const ours = CALLS / ((last - first) / 1000);
  const bare = await bareLoop('x'.repeat(600), CALLS);
  received.length = 0;

  failing = true;
  const hard = `hard-${run}`;
  await register(hard);
  await create(hard, EVENTS);
  const expected = await eventsOf(hard);
  let kills = 0;
  const delivered = () => new Set(of(hard).flatMap(({ id, accepted }) => (accepted ? [id] : [])));
  const { port } = new URL(service.url);
  while (delivered().size < EVENTS) {
    await setTimeout(KILL_AFTER_MS * (0.5 + Math.random()));
    progress(`${delivered().size} of ${EVENTS} events delivered, ${kills} times killed`);
    if (delivered().size >= EVENTS) break;
    service.child.kill('SIGKILL');
    await once(service.child, 'exit');
    kills++;
    service = await instances.start({ PORT: port });
  }
  const arrivals = of(hard).map(({ id }) => expected.indexOf(id));
  const accepted = of(hard).flatMap(({ id, accepted }) => (accepted ? [id] : []));
  const inOrder = arrivals.every((at, i) => i === 0 || [0, 1].includes(at - (arrivals[i - 1] as number)));
  const result = {
    callsPerSecond: { ours, bare, ratio: ours / bare },
    events: EVENTS,
    kills,
    calls: arrivals.length,
    deliveredAtLeastOnce: delivered().size,
    acceptedTwice: accepted.length - delivered().size,
    inOrder,
  };
  progress('');
  if (json) console.log(JSON.stringify(result));
  else {
    console.log(
      `one endpoint ${ours.toFixed(0)} calls/s, bare loop ${bare.toFixed(0)}/s, ratio ${(ours / bare).toFixed(2)}`,
    );
    console.log(
      `${EVENTS} events delivered in ${arrivals.length} calls of which a third failed, while the service was killed ${kills} times: ${result.deliveredAtLeastOnce} at least once, ${result.acceptedTwice} twice, ${inOrder ? 'in the order of the log' : 'NOT IN ORDER'}`,
    );
  }
} finally {
  await instances.remove();
  receiver.close();
  receiver.closeAllConnections();
}
