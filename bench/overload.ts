import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { load, post } from './load.js';
import { sendAtRate } from './open-loop.js';
import { percentile, services } from './service.js';

/**
 * Ten times the requests that an instance can answer, sent at a fixed rate over thousands of connections: creations,
 * lists of 2000 keys, and verifications. The log is that of EVENT_STORE_URL.
 */
const [CONNECTIONS, SECONDS, TIMES] = [4000, 10, 10];
const KEYS = 2000;
/** Number of requests that measure capacity, 64 in flight. */
const TRIAL = { creations: 20_000, lists: 500, verifications: 20_000 };
const SAMPLE_INTERVAL_MS = 50;
const json = process.argv.includes('--json');

/** Memory of a process in MiB (RSS); Linux only. */
const memoryOf = (pid: number | undefined) =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);

const service = services();
try {
  for (const kind of ['creations', 'lists', 'verifications'] as const) {
    const { child, url } = await service.start();
    const repo = `${service.run}-${kind}`;
    const path = `/repo/${repo}/ai/apikey`;
    const authorization = `Bearer ${await service.token('admin', repo)}`;
    const creation = post(url, path, { authorization }, { name: 'search feature', aiType: 'OPENAI' });
    const made = await load(url, new Array<Buffer>(KEYS).fill(creation), 64);
    const [first] = made.replies;
    const { key, secret } = JSON.parse(first?.body ?? '') as { key: string; secret: string };
    const verifier = { authorization: `Bearer ${await service.token('verifier', repo)}` };
    const verification = post(url, '/verify', verifier, { key, secret });
    const { host } = new URL(url);
    const list = Buffer.from(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nauthorization: ${authorization}\r\n\r\n`);
    const request = { creations: creation, lists: list, verifications: verification }[kind];

    const trial = await load(url, new Array<Buffer>(TRIAL[kind]).fill(request), 64);
    const capacity = TRIAL[kind] / trial.seconds;
    const before = memoryOf(child.pid);
    let peak = before;
    const look = setInterval(() => {
      peak = Math.max(peak, memoryOf(child.pid));
    }, SAMPLE_INTERVAL_MS);
    const perSecond = capacity * TIMES;
    const flood = { perSecond, seconds: SECONDS, connections: CONNECTIONS };
    const { due, sent, answers, broken } = await sendAtRate(url, () => request, flood);
    clearInterval(look);

    const ended = performance.now();
    while ((await load(url, [creation], 1)).replies[0]?.status !== 201) await setTimeout(SAMPLE_INTERVAL_MS);
    const recovery = (performance.now() - ended) / 1000;
    const ms = answers.map((answer) => answer.ms).sort((a, b) => a - b);
    const byStatus: Record<number, number> = {};
    for (const { status } of answers) byStatus[status] = (byStatus[status] ?? 0) + 1;
    const result = {
      kind,
      capacity: Math.round(capacity),
      due,
      sent,
      byStatus,
      broken,
      p50: Math.round(percentile(ms, 0.5)),
      p99: Math.round(percentile(ms, 0.99)),
      memory: { before, peak, after: memoryOf(child.pid) },
      recovery: Number(recovery.toFixed(2)),
    };
    if (json) console.log(JSON.stringify(result));
    else {
      const counts = Object.entries(byStatus).map(([status, count]) => `${status}: ${count}`);
      console.log(
        [
          `${kind}: ${result.capacity}/s can be done`,
          `  offered   ${due} in ${SECONDS} s, of which ${sent} found one of ${CONNECTIONS} connections free`,
          `  answered  ${counts.join(', ')}; connections that broke: ${broken}`,
          `  after     p50 ${result.p50} ms, p99 ${result.p99} ms`,
          `  memory    ${before} MiB before, ${peak} at most, ${result.memory.after} afterwards`,
          `  recovered ${result.recovery} s after the last answer`,
        ].join('\n'),
      );
    }
    child.kill('SIGTERM');
  }
} finally {
  await service.remove();
}
