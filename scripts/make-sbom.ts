import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lock, manifest, production } from './production-packages.js';

/**
 * Prints a bill of materials (CycloneDX) of the production packages. `npm sbom --omit dev` alone would omit each
 * package that development needs, too, so npm reads a lock file without development.
 */
const folder = mkdtempSync(join(tmpdir(), 'keyledger-sbom-'));
try {
  const { devDependencies: _, ...own } = manifest;
  const { devDependencies: __, ...root } = lock.packages[''] as Record<string, unknown>;
  // npm uses the name of the folder as that of the program.
  const home = join(folder, 'keyledger');
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), JSON.stringify(own));
  const packages = { '': root, ...Object.fromEntries(production) };
  writeFileSync(join(home, 'package-lock.json'), JSON.stringify({ ...lock, packages }));
  const options = ['--sbom-format', 'cyclonedx', '--sbom-type', 'application', '--package-lock-only'];
  const { status, stdout, stderr } = spawnSync('npm', ['sbom', ...options], { cwd: home, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm sbom failed: ${stderr}`);
  process.stdout.write(stdout);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
