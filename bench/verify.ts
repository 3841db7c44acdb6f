import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../src/config.js';
import { mintToken } from '../src/security/tokens.js';
import { load, median, post } from './load.js';
import { start } from './servers.js';

/**
 * Verifications over HTTP from 64 connections, each of another key than the last, beside a bare Fastify route with the
 * same requests and answers; checks each answer.
 */
const KEYS = 1_000;
const CONNECTIONS = 64;
const ROUNDS = 9;
const ROUND_SIZE = 20_000;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
const environment = { DATA_DIR: folder, PORT: '0', LOG_LEVEL: 'warn', RATE_LIMIT: '0' };
const config = loadConfig(environment);
const ours = await start(['dist/src/cli.js', 'serve'], environment);
const bare = await start(['dist/bench/bare-fastify.js'], environment);

try {
  const { key: signingKey } = config.tokens;
  if (signingKey instanceof URL) throw new Error('The benchmark mints its own tokens');
  const bearer = async (role: string) => ({
    authorization: `Bearer ${await mintToken(
      { ...config.tokens, key: signingKey },
      { subject: 'bench', grants: { '*': role }, claim: config.JWT_REPOS_CLAIM, ttlSeconds: 3600 },
      Date.now(),
    )}`,
  });
  progress(`creating ${KEYS} keys`);
  const creation = post(ours.url, '/repo/bench/ai/apikey', await bearer('admin'), {
    name: 'search feature',
    aiType: 'OPENAI',
  });
  const made = await load(ours.url, new Array<Buffer>(KEYS).fill(creation), CONNECTIONS);
  const credentials = made.replies.map(({ body }) => JSON.parse(body) as { key: string; secret: string });

  const authorization = await bearer('verifier');
  const rates = { ours: [] as number[], bare: [] as number[], ratio: [] as number[] };
  const side = async (url: string) => {
    const questions = credentials.map(({ key, secret }) => post(url, '/verify', authorization, { key, secret }));
    const requests = Array.from({ length: ROUND_SIZE }, (_, i) => questions[i % KEYS] as Buffer);
    const { replies, seconds } = await load(url, requests, CONNECTIONS, true);
    const bad = replies.find(({ status, body }) => status !== 200 || !body.includes('"valid":true'));
    if (bad) throw new Error(`${bad.status} ${bad.body}`);
    return ROUND_SIZE / seconds;
  };
  for (let round = 0; round <= ROUNDS; round++) {
    progress(`round ${round} of ${ROUNDS} (0 warms up)`);
    const first = round % 2 === 0;
    const before = first ? await side(ours.url) : await side(bare.url);
    const after = first ? await side(bare.url) : await side(ours.url);
    const [mine, theirs] = first ? [before, after] : [after, before];
    if (round === 0) continue;
    rates.ours.push(mine);
    rates.bare.push(theirs);
    rates.ratio.push(mine / theirs);
  }
  const perSecond = { ours: median(rates.ours), bare: median(rates.bare), ratio: median(rates.ratio) };
  progress('');
  if (json) console.log(JSON.stringify({ perSecond, rounds: rates }));
  else {
    const spread = (values: number[]) => `min ${Math.min(...values).toFixed(0)}, max ${Math.max(...values).toFixed(0)}`;
    console.log(
      `verifications/s   ours ${perSecond.ours.toFixed(0)} (${spread(rates.ours)})   bare Fastify ${perSecond.bare.toFixed(0)} (${spread(rates.bare)})`,
    );
    console.log(
      `ratio             ${perSecond.ratio.toFixed(2)}, the median of ${ROUNDS} interleaved rounds of ${ROUND_SIZE} from ${CONNECTIONS} connections`,
    );
  }
} finally {
  ours.child.kill('SIGKILL');
  bare.child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
