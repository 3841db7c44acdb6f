import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../src/config.js';
import { decodeApiKeyEvent } from '../src/event-store/codec.js';
import { openEventStore } from '../src/event-store/open.js';
import { mintToken } from '../src/security/tokens.js';
import { load, median, post, type Reply } from './load.js';
import { start } from './servers.js';

/**
 * Creations over HTTP from 64 connections: rate beside a bare Fastify route in the same run, and whether the log and
 * the list hold what the service answered.
 */
const CREATES = 10_000;
const CONNECTIONS = 64;
const ROUNDS = 5;
const ROUND_SIZE = 4_000;
const PATH = '/repo/bench/ai/apikey';
const body = { name: 'search feature', aiType: 'OPENAI' };
const json = process.argv.includes('--json');
const progress = (text: string) => void (process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`));

const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
const environment = { DATA_DIR: folder, PORT: '0', LOG_LEVEL: 'warn', RATE_LIMIT: '0' };
const config = loadConfig(environment);
const ours = await start(['dist/src/cli.js', 'serve'], environment);
const bare = await start(['dist/bench/bare-fastify.js'], environment);

try {
  if (config.tokens.key instanceof URL) throw new Error('The benchmark mints its own tokens');
  const token = await mintToken(
    { ...config.tokens, key: config.tokens.key },
    { subject: 'bench', grants: { '*': 'admin' }, claim: config.JWT_REPOS_CLAIM, ttlSeconds: 3600 },
    Date.now(),
  );
  const authorization = `Bearer ${token}`;
  const request = (headers = {}) => post(ours.url, PATH, { authorization, ...headers }, body);
  const created = (replies: readonly Reply[]) =>
    replies.map(({ status, body: text }) => {
      if (status !== 201) throw new Error(`${status} ${text}`);
      return JSON.parse(text) as { id: string; key: string; secret: string };
    });

  const rates = { ours: [] as number[], bare: [] as number[], ratio: [] as number[] };
  const plain: { id: string; secret: string }[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    progress(`round ${round} of ${ROUNDS} (0 warms up)`);
    const mine = await load(
      ours.url,
      Array.from({ length: ROUND_SIZE }, () => request()),
      CONNECTIONS,
    );
    const theirs = await load(
      bare.url,
      Array.from({ length: ROUND_SIZE }, () => post(bare.url, PATH, { authorization }, body)),
      CONNECTIONS,
    );
    plain.push(...created(mine.replies));
    if (round === 0) continue;
    rates.ours.push(ROUND_SIZE / mine.seconds);
    rates.bare.push(ROUND_SIZE / theirs.seconds);
    rates.ratio.push(theirs.seconds / mine.seconds);
  }

  progress(`${CREATES} creations`);
  plain.push(
    ...created(
      (
        await load(
          ours.url,
          Array.from({ length: CREATES }, () => request()),
          CONNECTIONS,
        )
      ).replies,
    ),
  );

  progress(`${CREATES} creations, each sent twice`);
  const twice = Array.from({ length: CREATES }, () => request({ 'idempotency-key': randomUUID() })).flatMap((one) => [
    one,
    one,
  ]);
  const doubled = created((await load(ours.url, twice, CONNECTIONS)).replies);
  const pairs = Array.from({ length: CREATES }, (_, i) => [doubled[2 * i], doubled[2 * i + 1]] as const);
  const equal = pairs.filter(([a, b]) => JSON.stringify(a) === JSON.stringify(b)).length;

  const list = await fetch(ours.url + PATH, { headers: { authorization } });
  const { apiKeys } = (await list.json()) as { apiKeys: { id: string }[] };
  ours.child.kill('SIGTERM');
  await once(ours.child, 'exit');

  progress('reading the log');
  const answered = new Map([...plain, ...doubled].map(({ id, secret }) => [id, secret]));
  const ids = new Set<string>();
  let events = 0;
  let opened = 0;
  const logFailed = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(config.EVENT_STORE_URL, {
    onFatal: logFailed,
    warn: progress,
    prefix: config.EVENT_STORE_PREFIX,
  });
  for await (const recorded of log.readAll()) {
    events++;
    const event = decodeApiKeyEvent(recorded, 0);
    if (event.type !== 'ApiKeyCreated') throw new Error(`A ${event.type} among creations`);
    const { apiKeyId, sealedSecret, secretHash } = event.data;
    ids.add(apiKeyId);
    if (config.keyring.open(sealedSecret, { apiKeyId, secretVersion: 1 }, secretHash) === answered.get(apiKeyId))
      opened++;
  }
  await log.close();

  const expected = ROUND_SIZE * (ROUNDS + 1) + 2 * CREATES;
  const counts = {
    expected,
    events,
    distinctIds: ids.size,
    listed: apiKeys.length,
    answeredSecretsThatOpen: opened,
    pairs: CREATES,
    equalPairs: equal,
  };
  const perSecond = { ours: median(rates.ours), bare: median(rates.bare), ratio: median(rates.ratio) };
  const right = [events, ids.size, apiKeys.length, opened].every((count) => count === expected) && equal === CREATES;
  progress('');
  if (json) console.log(JSON.stringify({ perSecond, rounds: rates, counts, right }));
  else {
    const round = (values: number[]) => `min ${Math.min(...values).toFixed(0)}, max ${Math.max(...values).toFixed(0)}`;
    console.log(
      `creates/s   ours ${perSecond.ours.toFixed(0)} (${round(rates.ours)})   bare Fastify ${perSecond.bare.toFixed(0)} (${round(rates.bare)})`,
    );
    console.log(
      `ratio       ${perSecond.ratio.toFixed(2)}, the median of ${ROUNDS} interleaved rounds of ${ROUND_SIZE} from ${CONNECTIONS} connections`,
    );
    console.log(
      `afterwards  ${Object.entries(counts)
        .map(([name, count]) => `${name} ${count}`)
        .join(', ')}`,
    );
    console.log(right ? 'all is as it was answered' : 'SOMETHING IS MISSING');
  }
  process.exitCode = right ? 0 : 1;
} finally {
  ours.child.kill('SIGKILL');
  bare.child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
