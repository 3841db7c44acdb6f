import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../src/config.js';
import { apiKeyStream } from '../src/domain/ai-api-key.js';
import { encode } from '../src/event-store/codec.js';
import { openSqliteLog } from '../src/event-store/sqlite/log.js';
import { hashOf, makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { mintToken } from '../src/security/tokens.js';
import { median } from './load.js';
import { start } from './servers.js';

/**
 * The list of a repository of 1,000 keys, created and renamed among those of others, as of a time and as of a position
 * near the end of the log, beside the plain list: sequential requests over HTTP.
 */
const EVENTS = Number(process.argv.find((arg) => /^\d+$/.test(arg)) ?? 100_000);
const KEYS = 1_000;
const ROUNDS = 30;
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
const environment = { DATA_DIR: folder, PORT: '0', LOG_LEVEL: 'warn', RATE_LIMIT: '0' };
const config = loadConfig(environment);
const cause = { actor: { issuer: 'bench', subject: 'bench' }, requestId: 'bench', commandId: 'bench' };

/**
 * Appends keys with two events each; those of the measured repository are spread evenly among others.
 * @returns a position near the end
 */
async function fill(): Promise<string> {
  const log = await openSqliteLog(config.EVENT_STORE_URL.replace('sqlite:', ''), (error) => {
    throw error;
  });
  const keys = EVENTS / 2;
  let near = '';
  const add = async (n: number) => {
    const key = {
      apiKeyId: randomUUID(),
      repoId: n % Math.floor(keys / KEYS) === 0 ? 'bench' : `other-${n % 997}`,
    };
    const secret = { secretHash: hashOf(makeSecret()), sealedSecret: `v1.k1.${'x'.repeat(114)}` };
    const made = { ...key, ...secret, name: 'x', aiType: 'OPENAI', accessKey: makeAccessKey() } as const;
    const events = [
      { type: 'ApiKeyCreated', data: { ...made, expiresAt: null } },
      { type: 'ApiKeyRenamed', data: { ...key, name: 'search feature' } },
    ] as const;
    const at = new Date().toISOString();
    const encoded = events.map((event) => encode(event, randomUUID(), at, cause));
    const result = await log.append(apiKeyStream(key.apiKeyId), encoded, 'no-stream');
    if (result.appended && n < keys * 0.99) near = result.position;
  };
  for (let n = 0; n < keys; n += 1000) {
    progress(`${2 * n} of ${EVENTS} events`);
    await Promise.all(Array.from({ length: Math.min(1000, keys - n) }, (_, i) => add(n + i)));
  }
  await log.close();
  return near;
}

let child: Awaited<ReturnType<typeof start>>['child'] | undefined;
try {
  const position = await fill();
  const service = await start(['dist/src/cli.js', 'serve'], environment);
  child = service.child;
  const { key } = config.tokens;
  if (key instanceof URL) throw new Error('The benchmark mints its own tokens');
  const grant = {
    subject: 'bench',
    grants: { '*': 'auditor' },
    claim: config.JWT_REPOS_CLAIM,
    ttlSeconds: 3600,
  };
  const authorization = `Bearer ${await mintToken({ ...config.tokens, key }, grant, Date.now())}`;
  const list = async (query: string) => {
    const started = performance.now();
    const response = await fetch(`${service.url}/repo/bench/ai/apikey${query}`, {
      headers: { authorization },
    });
    const { apiKeys } = (await response.json()) as { apiKeys?: unknown[] };
    return { status: response.status, ms: performance.now() - started, keys: apiKeys?.length ?? 0 };
  };
  while ((await list('')).keys < KEYS) progress('waiting for the service to fold the log');
  const sides = { plain: '', time: `?asOf=${new Date().toISOString()}`, position: `?asOf=${position}` };
  const rounds: Record<string, number[]> = { plain: [], time: [], position: [] };
  for (let round = 0; round <= ROUNDS; round++) {
    progress(`round ${round} of ${ROUNDS} (0 warms up)`);
    for (const [side, query] of Object.entries(sides)) {
      const { status, ms, keys } = await list(query);
      if (status !== 200 || keys < KEYS * 0.98) throw new Error(`${side}: ${status}, ${keys} keys`);
      if (round > 0) rounds[side]?.push(ms);
    }
  }
  progress('');
  const ms = Object.fromEntries(Object.entries(rounds).map(([side, values]) => [side, median(values)]));
  if (json) console.log(JSON.stringify({ events: EVENTS, keys: KEYS, ms, rounds }));
  else {
    const formatMedian = (side: string) =>
      `${ms[side]?.toFixed(1)} ms (max ${Math.max(...(rounds[side] ?? [])).toFixed(1)})`;
    console.log(`a list of ${KEYS} keys, in a log of ${EVENTS} events, the median of ${ROUNDS} rounds`);
    console.log(
      `plain ${formatMedian('plain')}   as of a time ${formatMedian('time')}   as of a position ${formatMedian('position')}`,
    );
  }
} finally {
  child?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
