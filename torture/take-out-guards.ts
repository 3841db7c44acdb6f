import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { redisSource } from '../test/support/servers/redis-server.js';
import { GUARDS, type Guard } from './guards.js';
import { eventStoreDbCommand } from './logs.js';

/**
 * Checks that the torture notices: takes each guard out of a copy of the built service, one at a time, and tortures the
 * copy for two minutes; the guard's check must find a violation. `npm run torture:guards [-- part of a guard's name]`.
 */
const MINUTES = 2;
const SEED = 8;

async function main(part = ''): Promise<void> {
  const hasEventStoreDb = eventStoreDbCommand() !== undefined;
  let missed = 0;
  for (const guard of GUARDS.filter((one) => one.guard.includes(part))) {
    const isThere = guard.log === 'sqlite' ? guard.readModel === 'memory' || redisSource : hasEventStoreDb;
    const found = isThere ? await tortureWithout(guard) : undefined;
    const isNoticed = found?.[guard.noticedBy] !== undefined;
    if (found && !isNoticed) missed++;
    const outcome = found ? (isNoticed ? 'noticed' : 'MISSED') : 'not run: no server';
    console.log(`${outcome.padEnd(8)} ${guard.guard}: by ${guard.noticedBy}; found in all: ${JSON.stringify(found)}`);
  }
  process.exitCode = missed > 0 ? 1 : 0;
}

/** @returns the number of violations by check */
async function tortureWithout(guard: Guard): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'keyledger-without-'));
  try {
    cpSync('dist', join(folder, 'dist'), { recursive: true });
    cpSync('package.json', join(folder, 'package.json'));
    symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
    const file = join(folder, 'dist/src', guard.file);
    const parts = readFileSync(file, 'utf8').split(guard.text);
    if (parts.length !== 2) throw new Error(`${guard.file} has not exactly one ${guard.text}`);
    writeFileSync(file, parts.join(guard.instead));
    const { log, readModel } = guard;
    const options = ['--log', log, '--read-model', readModel, '--minutes', MINUTES, '--seed', SEED, '--json'];
    const torture = spawn(process.execPath, ['dist/torture/main.js', ...options.map(String)], {
      cwd: folder,
      env: { ...process.env, TMPDIR: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      torture[name].setEncoding('utf8').on('data', (text) => {
        printed[name] += text;
      });
    }
    await once(torture, 'close');
    if (printed.stdout === '') throw new Error(printed.stderr);
    const found: Record<string, number> = {};
    const { violations } = JSON.parse(printed.stdout) as { violations: { check: string }[] };
    for (const { check } of violations) found[check] = (found[check] ?? 0) + 1;
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await main(process.argv[2]);
