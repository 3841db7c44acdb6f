import type { Command } from 'commander';

/** `keyledger log`: copies of the log. */
export function addLogCommands(program: Command): void {
  program.command('log').description('copies of the log');
}
