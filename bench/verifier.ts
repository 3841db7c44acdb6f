import { hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { createVerifier } from '../src/sdk/verifier/index.js';
import { load, median, post } from './load.js';
import { percentile, services } from './service.js';

/**
 * The in-process verifier: verifications a second beside one SHA-256 each, and the time from the answer to a DELETE to
 * the first refusal. The log is that of EVENT_STORE_URL, the read model that of READ_MODEL_URL, or the default of both.
 */
const KEYS = 10_000;
const ROUNDS = 9;
const CALLS = 100_000;
const REVOCATIONS = 1_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const instances = services();
const repo = instances.run;
const service = await instances.start();
const verifier = createVerifier({ baseUrl: service.url, token: await instances.token('replica', repo) });
try {
  const headers = { authorization: `Bearer ${await instances.token('admin', repo)}` };
  const path = `/repo/${repo}/ai/apikey`;
  const creation = post(service.url, path, headers, { name: 'search feature', aiType: 'OPENAI' });
  progress(`${KEYS} keys`);
  const { replies } = await load(service.url, new Array<Buffer>(KEYS).fill(creation), 32);
  const keys = replies.map(({ body }) => JSON.parse(body) as { id: string; key: string; secret: string });
  await verifier.ready();
  for (const { key, secret } of keys) while (!verifier.verify(key, secret).valid) await setImmediate();

  const perSecond = (call: (n: number) => void): number => {
    const began = performance.now();
    for (let n = 0; n < CALLS; n++) call(n);
    return CALLS / ((performance.now() - began) / 1000);
  };
  const random = Array.from({ length: CALLS }, () => keys[Math.floor(Math.random() * KEYS)] as (typeof keys)[0]);
  const ours: number[] = [];
  const bare: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    progress(`round ${round} of ${ROUNDS}`);
    ours.push(
      perSecond((n) => {
        const { key, secret } = random[n] as (typeof keys)[0];
        if (!verifier.verify(key, secret).valid) throw new Error('A good credential was refused');
      }),
    );
    bare.push(perSecond((n) => void hash('sha256', (random[n] as (typeof keys)[0]).secret, 'hex')));
    await setImmediate();
  }

  const delays: number[] = [];
  for (const { id, key, secret } of keys.slice(0, REVOCATIONS)) {
    if (delays.length % 50 === 0) progress(`${delays.length} of ${REVOCATIONS} revocations`);
    const deletion = await fetch(`${service.url}${path}/${id}`, { method: 'DELETE', headers });
    const answered = performance.now();
    if (deletion.status !== 200) throw new Error(await deletion.text());
    while (verifier.verify(key, secret).valid) await setImmediate();
    delays.push(performance.now() - answered);
  }
  delays.sort((a, b) => a - b);
  const milliseconds = {
    p50: percentile(delays, 0.5),
    p99: percentile(delays, 0.99),
    max: percentile(delays, 1),
  };
  const ratio = median(ours.map((one, i) => one / (bare[i] as number)));
  progress('');
  if (json) {
    const perSecondOf = { ours: median(ours), bareSha256: median(bare) };
    console.log(JSON.stringify({ keys: KEYS, perSecond: perSecondOf, ratio, revocations: REVOCATIONS, milliseconds }));
  } else {
    const rate = (values: number[]) =>
      `${Math.round(median(values))}/s (${Math.round(Math.min(...values))} to ${Math.round(Math.max(...values))})`;
    console.log(`verifications in process ${rate(ours)}, bare SHA-256 ${rate(bare)}, ratio ${ratio.toFixed(2)}`);
    const figures = Object.entries(milliseconds).map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`);
    console.log(`from DELETE's answer to the first refusal, ${REVOCATIONS} times   ${figures.join('   ')}`);
  }
} finally {
  await verifier.close();
  await instances.remove();
}
