import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { seeded } from '../bench/seeded.js';
import { startProgressBar } from '../src/cli/progress-bar.js';
import { inflictAll, possibleFaults } from './faults.js';
import type { Inflicted } from './history.js';
import { COMMAND_VARIABLE, eventStoreDbCommand } from './logs.js';
import { report } from './report.js';
import { Run } from './run.js';
import { scheduleOf } from './schedule.js';
import { endWorld, makeWorld, type SetUp } from './world.js';

/**
 * Clients use two instances while everything that these depend on fails, one thing after the other; then the torture
 * compares their answers with the log: docs/reliability.md.
 */
const options = new Command('npm run torture --')
  .description('Uses the service while all that it stands on fails, and checks every answer')
  .addOption(new Option('--log <log>', 'where events are kept').choices(['sqlite', 'eventstoredb']).default('sqlite'))
  .addOption(new Option('--read-model <model>', 'where lists are kept').choices(['memory', 'redis']).default('memory'))
  .option('--minutes <number>', 'for how long', positive, 2)
  .option('--seed <number>', 'the same seed, the same faults at the same times', whole, Date.now() % 1e9)
  .option('--json', 'the result as JSON')
  .parse()
  .opts<{
    log: SetUp['log'];
    readModel: SetUp['readModel'];
    minutes: number;
    seed: number;
    json?: true;
  }>();

const CLIENTS = 12;
/** Time for recovery after the last fault has ended (milliseconds). */
const RECOVERY_MS = 60_000;

function positive(text: string): number {
  if (Number(text) > 0) return Number(text);
  throw new InvalidArgumentError('must be a number above 0');
}

function whole(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('must be a whole number');
}

const { log, readModel, minutes, seed, json } = options;
const command = log === 'eventstoredb' ? eventStoreDbCommand() : undefined;
if (log === 'eventstoredb' && !command) {
  console.error(
    `There is no EventStoreDB to start: install kurrentd, or set ${COMMAND_VARIABLE}, such as "kurrentd --insecure --node-port {port} --db {folder}"`,
  );
  process.exit(1);
}
const say = (text: string) => void process.stderr.write(`${text}\n`);
const setUp = { log, readModel, command };
const { kinds, without } = possibleFaults(setUp);
say(`Torture of ${log} with ${readModel} for ${minutes} min: --seed ${seed}`);
if (without) say(`Left out: ${without}`);

const folder = mkdtempSync(join(tmpdir(), 'keyledger-torture-'));
const world = await makeWorld(folder, setUp);
let isRight = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void endWorld(world).then(() => process.exit(1)));
}
try {
  const run = await Run.begin(world, seeded(seed + 1), CLIENTS);
  const schedule = scheduleOf(seed, minutes, kinds);
  const progress = startProgressBar('Torturing', schedule.length, 'faults');
  const onInflicted = (fault: Inflicted) => {
    run.inflicted(fault);
    progress.add(1);
  };
  await inflictAll(schedule, world, run, onInflicted, run.violated);
  progress.end();
  const result = await run.finish(RECOVERY_MS);
  isRight = result.violations.length === 0;
  console.log(json ? JSON.stringify({ log, readModel, minutes, seed, ...result }) : report(result));
} finally {
  await endWorld(world);
}
if (isRight) rmSync(folder, { recursive: true, force: true });
else say(`What happened is in ${folder}: history.ndjson, and all that the parts have kept`);
process.exit(isRight ? 0 : 1);
