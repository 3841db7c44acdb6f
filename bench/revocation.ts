import { load, post } from './load.js';
import { percentile, services } from './service.js';

/**
 * Time from the answer to a DELETE on one instance to the first refusal on another, polled without a pause. The log is
 * that of EVENT_STORE_URL, the read model that of READ_MODEL_URL, or the default of both.
 */
const REVOCATIONS = 1_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const instances = services();
const [one, other] = [await instances.start(), await instances.start()];

try {
  const token = await instances.token('admin', instances.run);
  const headers = { authorization: `Bearer ${token}` };
  const keys = `/repo/${instances.run}/ai/apikey`;
  const creation = post(one.url, keys, headers, { name: 'search feature', aiType: 'OPENAI' });
  const { replies } = await load(one.url, new Array<Buffer>(REVOCATIONS).fill(creation), 16);
  const verifyStatus = async (key: string, secret: string) => {
    const response = await fetch(`${other.url}/verify/forward`, {
      headers: { 'x-api-key': key, 'x-api-secret': secret },
    });
    await response.arrayBuffer();
    return response.status;
  };

  const delays: number[] = [];
  for (const [n, reply] of replies.entries()) {
    if (n % 50 === 0) progress(`${n} of ${REVOCATIONS} revocations`);
    const { id, key, secret } = JSON.parse(reply.body) as { id: string; key: string; secret: string };
    while ((await verifyStatus(key, secret)) !== 200);
    const deletion = await fetch(`${one.url}${keys}/${id}`, { method: 'DELETE', headers });
    const answered = performance.now();
    if (deletion.status !== 200) throw new Error(await deletion.text());
    while ((await verifyStatus(key, secret)) === 200);
    delays.push(performance.now() - answered);
  }
  delays.sort((a, b) => a - b);
  const milliseconds = {
    p50: percentile(delays, 0.5),
    p99: percentile(delays, 0.99),
    max: percentile(delays, 1),
  };
  progress('');
  if (json) console.log(JSON.stringify({ revocations: delays.length, milliseconds }));
  else {
    const figures = Object.entries(milliseconds).map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`);
    console.log(
      `from DELETE's answer to the first refusal on another instance, ${delays.length} times   ${figures.join('   ')}`,
    );
  }
} finally {
  await instances.remove();
}
