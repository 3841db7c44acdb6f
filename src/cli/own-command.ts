import { existsSync, readFileSync } from 'node:fs';

/**
 * Command that runs this command line from the current folder. Uses npx only where it finds Keyledger there: elsewhere
 * it would fetch any package that the registry has by this name.
 */
export function ownCommand(): string {
  if (existsSync('node_modules/.bin/keyledger') || isOwnProject()) return 'npx keyledger';
  const program = process.argv[1] ?? '';
  return `node ${/^[\w./-]+$/.test(program) ? program : JSON.stringify(program)}`;
}

function isOwnProject(): boolean {
  try {
    return (JSON.parse(readFileSync('package.json', 'utf8')) as { name?: unknown }).name === 'keyledger';
  } catch {
    return false;
  }
}
