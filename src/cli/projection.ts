import type { Command } from 'commander';

/** `keyledger projection`: what lists are served from. */
export function addProjectionCommands(program: Command): void {
  program.command('projection').description('what lists are served from');
}
