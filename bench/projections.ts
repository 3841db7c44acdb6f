import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from '@photostructure/sqlite';
import { startProgressBar } from '../src/cli/progress-bar.js';
import { evolveApiKey } from '../src/domain/ai-api-key.js';
import { decodeApiKeyEvent } from '../src/event-store/codec.js';
import type { EventStore } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import { apiKeyIdOf } from '../src/event-store/streams.js';
import { buildProjections } from '../src/projections/local/build.js';
import { LiveFile } from '../src/projections/local/live-file.js';
import type { ProjectionStore } from '../src/projections/local/store.js';
import { verifyCredential } from '../src/projections/verify.js';
import { makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { Keyring } from '../src/security/keyring.js';
import { MASTER_KEYS } from './generate-appends.js';
import { median } from './load.js';

/**
 * The projections of a log that bench:make-log has made: `projections <sqlite file> [--json]`. Builds them beside a bare
 * SELECT, JSON.parse and insert of the same events; then verifies hot, random and unknown keys beside one SHA-256.
 */
const ROUNDS = 5;
const ROUND_SIZE = 50_000;
/** More than stay in memory. */
const SAMPLE = 100_000;
const HOT = 100;
const [path] = process.argv.slice(2).filter((arg) => !arg.startsWith('--'));
if (!path) throw new Error('projections <sqlite file> [--json]');
const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
const failed = (error: Error) => {
  throw error;
};
const log = await openEventStore(`sqlite:${path}`, { onFatal: failed, warn: console.error });

type Credential = { readonly accessKey: string; readonly secret: string };

async function seconds(what: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await what();
  return (performance.now() - started) / 1000;
}

/** What any projection of the log has to do: read each event, and write a row. */
async function bareFold(): Promise<void> {
  const source = new DatabaseSync(path as string, { readOnly: true });
  const target = new DatabaseSync(join(folder, 'bare.db'));
  target.enableDefensive(false);
  target.exec(
    'PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)',
  );
  const select = source.prepare('SELECT place, data, metadata FROM events WHERE place > ? ORDER BY place LIMIT 512');
  const insert = target.prepare('INSERT INTO rows VALUES (?, ?)');
  for (let last = 0; ; ) {
    const rows = select.all(last) as { place: number; data: string; metadata: string }[];
    target.exec('BEGIN');
    for (const { place, data, metadata } of rows) {
      const { repoId } = JSON.parse(data) as { repoId?: string };
      const { occurredAt } = JSON.parse(metadata) as { occurredAt?: string };
      insert.run(place, `${repoId} ${occurredAt}`);
      last = place;
    }
    target.exec('COMMIT');
    if (rows.length < 512) break;
  }
  source.close();
  target.close();
}

/** Credentials of active keys all over the log. */
async function sampleCredentials(from: EventStore, store: ProjectionStore): Promise<Credential[]> {
  const keyring = new Keyring(MASTER_KEYS);
  const every = Math.max(1, Math.floor(store.meta.events / SAMPLE / 2));
  const found: Credential[] = [];
  let n = 0;
  for await (const { stream } of from.readAll()) {
    const apiKeyId = apiKeyIdOf(stream);
    if (n++ % every > 0 || apiKeyId === undefined) continue;
    let key: ReturnType<typeof evolveApiKey> | undefined;
    let revision = 0;
    for await (const event of from.readStream(stream)) key = evolveApiKey(key, decodeApiKeyEvent(event, revision++));
    if (key?.status !== 'active' || key.expiresAt !== null) continue;
    const { sealedSecret, secretVersion, secretHash, accessKey } = key;
    const secret = keyring.open(sealedSecret, { apiKeyId, secretVersion }, secretHash);
    if (secret) found.push({ accessKey, secret });
  }
  return found;
}

const progress = startProgressBar('Building the projections');
const file = join(folder, 'projections.db');
const bare = await seconds(bareFold);
let built = 0;
const building = await seconds(() =>
  buildProjections(log, file, ({ events }) => {
    progress.add(events - built);
    built = events;
  }),
);
progress.end();
const live = new LiveFile(file, log.logId, { onDamage: failed, onNext: () => undefined });
const { store } = live;
const { events, keys } = store.meta;
const credentials = await sampleCredentials(log, store);
const unknown = credentials.map(() => ({ accessKey: makeAccessKey(), secret: makeSecret() }));

const now = Date.now();
const canSee = () => true;
const verify = (credential: Credential) =>
  verifyCredential(store.keyToVerify(credential.accessKey)?.key, { ...credential, canSee }, now).valid;
const hash = ({ secret }: Credential) => createHash('sha256').update(secret).digest('hex') !== '';
const sides: Record<string, (i: number) => boolean> = {
  hot: (i) => verify(credentials[i % HOT] as Credential),
  random: (i) => verify(credentials[(i * 7919) % credentials.length] as Credential),
  unknown: (i) => !verify(unknown[(i * 7919) % unknown.length] as Credential),
  'one SHA-256': (i) => hash(credentials[i % HOT] as Credential),
};
const rates = Object.fromEntries(Object.keys(sides).map((name) => [name, [] as number[]]));
for (let round = 0; round <= ROUNDS; round++) {
  for (const [name, one] of Object.entries(sides)) {
    const started = performance.now();
    for (let i = 0; i < ROUND_SIZE; i++) if (!one(i)) throw new Error(`A wrong verdict on a ${name} key`);
    // Round 0 warms up.
    if (round > 0) rates[name]?.push((ROUND_SIZE / (performance.now() - started)) * 1000);
  }
}
const perSecond = Object.fromEntries(Object.entries(rates).map(([name, all]) => [name, Math.round(median(all))]));
const bytes = statSync(file).size;
const result = {
  events,
  keys,
  bytesAnEvent: bytes / events,
  foldedPerSecond: events / building,
  bareFoldedPerSecond: events / bare,
  ratio: bare / building,
  verificationsPerSecond: perSecond,
};
await live.close('as it is');
await log.close();
rmSync(folder, { recursive: true });
if (process.argv.includes('--json')) console.log(JSON.stringify(result));
else {
  console.log(
    `${events} events of ${keys} keys: ${(bytes / 2 ** 20).toFixed(0)} MiB, ${(bytes / events).toFixed(0)} bytes an event`,
  );
  console.log(
    `folded            ${result.foldedPerSecond.toFixed(0)} events/s, bare ${result.bareFoldedPerSecond.toFixed(0)}, ratio ${result.ratio.toFixed(2)}`,
  );
  for (const [name, rate] of Object.entries(perSecond)) console.log(`${name.padEnd(17)} ${rate}/s`);
}
