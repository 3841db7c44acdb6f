import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';

/** The arrows of docs/architecture.md: folders, and files of the root, that each folder of src may import. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  security: ['domain'],
  redis: ['security'],
  sqlite: [],
  'event-store': ['domain'],
  'event-store/sqlite': ['domain', 'event-store', 'sqlite'],
  'event-store/eventstoredb': ['domain', 'event-store'],
  commands: ['domain', 'event-store', 'security'],
  'commands/api-keys': ['domain', 'event-store', 'security', 'commands'],
  'commands/webhooks': ['domain', 'event-store', 'security', 'commands'],
  projections: ['domain', 'event-store', 'security'],
  'projections/local': ['domain', 'event-store', 'sqlite', 'projections'],
  'projections/redis': ['event-store', 'projections', 'redis'],
  subscribers: ['domain', 'event-store', 'security', 'projections', 'projections/local'],
  'subscribers/webhooks': [
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'redis',
    'sqlite',
    'subscribers',
  ],
  'last-used': ['domain', 'redis', 'sqlite'],
  'read-marks': ['redis', 'sqlite'],
  audit: ['domain', 'event-store', 'projections'],
  'log-transfer': ['domain', 'event-store'],
  maintenance: ['domain', 'event-store', 'projections', 'projections/local', 'projections/redis', 'redis'],
  'http/plugins': ['domain', 'security'],
  'http/sse': ['domain', 'event-store', 'projections'],
  http: [
    'settings.ts',
    'version.ts',
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'subscribers/webhooks',
    'http/plugins',
  ],
  'http/routes': ['domain', 'projections/local', 'http'],
  'http/routes/api-keys': [
    'domain',
    'event-store',
    'commands',
    'commands/api-keys',
    'projections',
    'last-used',
    'http',
    'http/routes/audit',
  ],
  'http/routes/audit': [
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'projections/local',
    'audit',
    'read-marks',
    'http',
    'http/plugins',
  ],
  'http/routes/streams': ['domain', 'event-store', 'subscribers', 'http', 'http/plugins', 'http/sse'],
  'http/routes/verification': [
    'domain',
    'event-store',
    'commands/api-keys',
    'projections',
    'last-used',
    'http',
    'http/plugins',
  ],
  'http/routes/webhooks': [
    'domain',
    'event-store',
    'commands',
    'commands/webhooks',
    'projections',
    'projections/local',
    'subscribers/webhooks',
    'audit',
    'http',
    'http/routes/audit',
  ],
  cli: [
    'settings.ts',
    'terminal-text.ts',
    'domain',
    'event-store',
    'security',
    'commands',
    'projections',
    'projections/local',
    'projections/redis',
    'redis',
    'audit',
    'log-transfer',
    'maintenance',
  ],
  'sdk/client': [],
  'sdk/webhook': ['sdk/client'],
  'sdk/verifier': ['sdk/client', 'projections', 'subscribers'],
};
/** Composition: files that choose which adapters or parts of a folder to use. */
const MAY_ALSO_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'event-store/open.ts': ['event-store/sqlite', 'event-store/eventstoredb'],
  'projections/open.ts': ['projections/redis'],
  'projections/projector.ts': ['projections/local'],
  'projections/projector-options.ts': ['projections/local'],
  'projections/queries.ts': ['projections/local'],
  'http/app.ts': [
    'http/routes',
    'http/routes/api-keys',
    'http/routes/audit',
    'http/routes/streams',
    'http/routes/verification',
    'http/routes/webhooks',
  ],
};
/** Small files of the root that every room may use, except those that stand alone. They know the domain only. */
const SHARED = ['back-off.ts', 'grouping.ts', 'paced.ts', 'quantity.ts', 'staleness-clock.ts'];
const WITHOUT_PACKAGES = ['domain', 'sdk/client'];

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
/** Folder of a file; a file of the root stands for itself. */
const folderOf = (file: string) => (file.includes('/') ? dirname(file) : file);
const imports = files.flatMap((file) =>
  [...readFileSync(join('src', file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
    ([, target = '']) => ({
      file,
      folder: folderOf(file),
      target,
      to: target.startsWith('.') ? folderOf(join(dirname(file), target).replace(/\.js$/, '.ts')) : undefined,
    }),
  ),
);

describe('the arrows between the rooms of src', () => {
  it('are known for every room that there is', () => {
    const folders = new Set(files.filter((file) => file.includes('/')).map(folderOf));
    expect([...folders].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
    expect(imports.length).toBeGreaterThan(100);
  });

  it('are those of the table', () => {
    const wrong = imports.filter(
      ({ file, folder, to }) =>
        folder !== file &&
        to !== undefined &&
        to !== folder &&
        !(SHARED.includes(to) && !WITHOUT_PACKAGES.includes(folder)) &&
        !MAY_IMPORT[folder]?.includes(to) &&
        !MAY_ALSO_IMPORT[file]?.includes(to),
    );
    expect(wrong).toEqual([]);
  });

  it('are all used: the table allows nothing that the code no longer needs', () => {
    const used = new Set(imports.map(({ folder, to }) => `${folder} -> ${to}`));
    const unused = Object.entries(MAY_IMPORT).flatMap(([folder, targets]) =>
      targets.map((to) => `${folder} -> ${to}`).filter((arrow) => !used.has(arrow)),
    );
    expect(unused).toEqual([]);
  });

  it('lead from shared files to the domain only', () => {
    const ofShared = imports.filter(({ file, to }) => SHARED.includes(file) && to !== undefined);
    expect(ofShared.filter(({ to }) => to !== 'domain')).toEqual([]);
  });

  it('never run back', () => {
    const reachable = (from: string, seen = new Set<string>()): Set<string> => {
      for (const to of MAY_IMPORT[from] ?? []) if (!seen.has(to)) reachable(to, seen.add(to));
      return seen;
    };
    expect(Object.keys(MAY_IMPORT).filter((folder) => reachable(folder).has(folder))).toEqual([]);
  });

  it('leave domain and client without any package', () => {
    expect(imports.filter(({ folder, to }) => WITHOUT_PACKAGES.includes(folder) && to === undefined)).toEqual([]);
  });

  it('let nothing append but the command handler, the record of an audit access, and an import', () => {
    const appending = files.filter((file) =>
      /\blog\.(?:append|bulkAppend)\(/.test(readFileSync(join('src', file), 'utf8')),
    );
    expect(appending.sort()).toEqual([
      'commands/command-handler.ts',
      'commands/record-audit-access.ts',
      'log-transfer/import.ts',
    ]);
  });
});
