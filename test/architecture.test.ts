import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from '@jest/globals';

/** The arrows of docs/architecture.md: what each folder of src may import from its siblings. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  security: ['domain'],
  'event-store': ['domain', 'security'],
  commands: ['domain', 'event-store', 'security'],
  redis: ['security'],
  sqlite: [],
  projections: ['domain', 'event-store', 'security', 'redis'],
  subscribers: ['domain', 'event-store', 'security', 'commands', 'projections', 'redis', 'sqlite'],
  'last-used': ['redis', 'sqlite'],
  'read-marks': ['redis', 'sqlite'],
  audit: ['domain', 'event-store', 'security', 'commands', 'projections'],
  'log-transfer': ['quantity.js', 'domain', 'event-store'],
  maintenance: ['quantity.js', 'domain', 'event-store', 'security', 'commands', 'projections', 'redis'],
  http: [
    'settings.js',
    'version.js',
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'subscribers',
    'audit',
    'log-transfer',
    'maintenance',
    'last-used',
    'read-marks',
  ],
  cli: [
    'settings.js',
    'quantity.js',
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'redis',
    'audit',
    'log-transfer',
    'maintenance',
  ],
  client: [],
  webhook: ['client'],
  verifier: ['client', 'projections', 'subscribers'],
};
const OUTSIDE_NOTHING = ['domain', 'client'];

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) =>
  file.endsWith('.ts'),
);
const imports = files.flatMap((file) =>
  [...readFileSync(join('src', file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
    ([, target = '']) => ({
      file,
      folder: dirname(file).split('/')[0] as string,
      target,
      to: target.startsWith('.') ? relative('.', join(dirname(file), target)).split('/')[0] : undefined,
    }),
  ),
);

describe('the arrows between the folders of src', () => {
  it('are looked at in every folder that there is', () => {
    const folders = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.map(({ name }) => name).sort()).toEqual(Object.keys(MAY_IMPORT).sort());
    expect(imports.length).toBeGreaterThan(100);
  });

  it('point one way', () => {
    const wrong = imports.filter(
      ({ folder, to }) =>
        folder !== '.' && to !== undefined && to !== folder && !MAY_IMPORT[folder]?.includes(to),
    );
    expect(wrong).toEqual([]);
  });

  it('leave domain and client without any package', () => {
    expect(imports.filter(({ folder, to }) => OUTSIDE_NOTHING.includes(folder) && to === undefined)).toEqual(
      [],
    );
  });

  it('let nothing append but handle-command, the record of who looked, and an import', () => {
    const appending = files.filter((file) =>
      /\blog\.append(?:InOrder)?\(/.test(readFileSync(join('src', file), 'utf8')),
    );
    expect(appending.sort()).toEqual([
      'commands/command-handler.ts',
      'commands/record-audit-access.ts',
      'log-transfer/import.ts',
    ]);
  });
});
