/**
 * Removes compiled files whose source is gone, so that a deleted test does not run again. Of the service's own files only
 * with --all, as for a package: another process may run from them.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const OUTPUT = /\.(?:js|js\.map|d\.ts)$/;
const folders = ['test', 'bench', 'torture', 'scripts', ...(process.argv.includes('--all') ? ['src'] : [])];

for (const folder of folders) {
  const output = join('dist', folder);
  if (!existsSync(output)) continue;
  for (const file of readdirSync(output, { recursive: true, encoding: 'utf8' })) {
    const isStale = OUTPUT.test(file) && !existsSync(join(folder, file.replace(OUTPUT, '.ts')));
    if (isStale) rmSync(join(output, file));
  }
}
