import { createHash, randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { encode } from '../src/event-store/codec.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hex16, makePosition } from '../src/event-store/position.js';
import { ApiKeyIndex } from '../src/projections/api-key-index.js';
import { hashOf, makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { median } from './load.js';

/**
 * The verify index in this process: bytes of memory a key, events folded a second, and verifications a second of random
 * keys beside one SHA-256 of the same secret.
 */
const KEYS = Number(process.argv.find((arg) => /^\d+$/.test(arg)) ?? 1_000_000);
const REPOSITORIES = 1_000;
const ROUNDS = 7;
const ROUND_SIZE = 200_000;
const SAMPLE = 20_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const memory = () => {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

const LOG = randomUUID();
const cause = { actor: { issuer: 'bench', subject: 'bench' }, requestId: 'bench', commandId: 'bench' };
const at = new Date().toISOString();
/** Event parsed from JSON, as the log's events are. */
function creation(n: number, accessKey: string, secret: string): RecordedEvent {
  const apiKeyId = randomUUID();
  const data = {
    apiKeyId,
    repoId: `repository-${n % REPOSITORIES}`,
    name: `search feature ${n}`,
    aiType: 'OPENAI' as const,
    accessKey,
    secretHash: hashOf(secret),
    sealedSecret: `v1.k1.${'x'.repeat(16)}.${'x'.repeat(98)}`,
    expiresAt: null,
  };
  const event = encode({ type: 'ApiKeyCreated', data }, randomUUID(), at, cause);
  const place = { stream: `aiApiKey-${apiKeyId}`, revision: 0, recordedAt: at };
  return {
    ...(JSON.parse(JSON.stringify({ ...event, ...place })) as RecordedEvent),
    position: makePosition(LOG, hex16(n + 1)),
  };
}

const index = new ApiKeyIndex();
const sample: { accessKey: string; secret: string }[] = [];
const before = memory();
let folding = 0;
for (let n = 0; n < KEYS; n++) {
  if (n % 50_000 === 0) progress(`${n} of ${KEYS} keys`);
  const [accessKey, secret] = [makeAccessKey(), makeSecret()];
  if (n % Math.ceil(KEYS / SAMPLE) === 0) sample.push({ accessKey, secret });
  const recorded = creation(n, accessKey, secret);
  const started = performance.now();
  index.apply(recorded);
  folding += performance.now() - started;
}
const bytesAKey = (memory() - before) / KEYS;

const rates = { ours: [] as number[], hash: [] as number[], ratio: [] as number[] };
const canSee = () => true;
for (let round = 0; round <= ROUNDS; round++) {
  progress(`round ${round} of ${ROUNDS} (0 warms up)`);
  const side = (one: (credential: { accessKey: string; secret: string }) => boolean) => {
    const started = performance.now();
    for (let i = 0; i < ROUND_SIZE; i++) {
      const credential = sample[(i * 7919) % sample.length];
      if (!credential || !one(credential)) throw new Error('A good credential was refused');
    }
    return (ROUND_SIZE / (performance.now() - started)) * 1000;
  };
  const now = Date.now();
  const ours = side((credential) => index.verify({ ...credential, canSee }, now).valid);
  const hash = side(({ secret }) => createHash('sha256').update(secret).digest('hex') !== '');
  if (round === 0) continue;
  rates.ours.push(ours);
  rates.hash.push(hash);
  rates.ratio.push(ours / hash);
}
const perSecond = { ours: median(rates.ours), hash: median(rates.hash), ratio: median(rates.ratio) };
const foldedPerSecond = (KEYS / folding) * 1000;
progress('');
if (json) console.log(JSON.stringify({ keys: KEYS, bytesAKey, foldedPerSecond, perSecond, rounds: rates }));
else {
  console.log(`memory            ${bytesAKey.toFixed(0)} bytes a key, with ${KEYS} keys in the index`);
  console.log(`folding           ${foldedPerSecond.toFixed(0)} events/s, decoding included`);
  console.log(
    `verifications/s   ${perSecond.ours.toFixed(0)} in process, one SHA-256 ${perSecond.hash.toFixed(0)}, ratio ${perSecond.ratio.toFixed(2)}`,
  );
}
