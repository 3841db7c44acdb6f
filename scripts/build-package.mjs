/**
 * Builds the package for `npm pack`: the compiled service and nothing else, also in a clone without
 * node_modules.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** npm's own output is the name of the package, so messages go to standard error. */
function run(command, ...args) {
  const shell = process.platform === 'win32';
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 2, 2], shell });
  if (status !== 0) throw error ?? new Error(`${command} ${args.join(' ')} has failed`);
}

if (!existsSync('node_modules/typescript')) run('npm', 'ci');
run('npm', 'run', '--silent', 'build:src');
run('node', 'scripts/remove-stale-output.mjs', '--all');
