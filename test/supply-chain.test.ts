import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { locked, manifest, nameOf, production } from '../scripts/production-packages.js';

/** What may be used in a program of any licence. Another one is looked at before it is added here. */
const LICENCES = [
  '(BSD-3-Clause AND Apache-2.0)',
  'Apache-2.0',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
  'Unlicense',
];
/** Packages whose installation would run a program of theirs. Look at another one before you add it here. */
const WITH_INSTALL_SCRIPT = [
  'node_modules/@parcel/watcher',
  'node_modules/@photostructure/sqlite',
  'node_modules/cpu-features',
  'node_modules/protobufjs',
  'node_modules/ssh2',
  'node_modules/unrs-resolver',
];

describe('the lock file', () => {
  it('holds every package by its SHA-512', () => {
    expect(locked.length).toBeGreaterThan(production.length);
    expect(locked.filter(([, { integrity }]) => !/^sha512-[\w+/]{86}==$/.test(integrity ?? ''))).toEqual([]);
  });

  it('names no place but the public registry, or none: then it is whatever registry is set', () => {
    const elsewhere = ({ resolved, link }: (typeof locked)[number][1]) =>
      link || (resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/'));
    expect(locked.filter(([, entry]) => elsewhere(entry))).toEqual([]);
  });

  it('holds released versions only', () => {
    expect(locked.filter(([, { version }]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version ?? ''))).toEqual([]);
    const wanted = Object.values({ ...manifest.dependencies, ...manifest.devDependencies });
    expect(wanted.filter((range) => !/^[~^]\d+\.\d+\.\d+$/.test(range))).toEqual([]);
  });

  it('holds no package that runs a program when it is installed, but those that are known', () => {
    const found = locked.flatMap(([place, { hasInstallScript }]) => (hasInstallScript ? [place] : []));
    expect(found.sort()).toEqual(WITH_INSTALL_SCRIPT);
  });

  it('and package.json says of each of those whether it may, so that npm warns of none', () => {
    const decided = Object.keys(manifest.allowScripts).map((name) => `node_modules/${name}`);
    expect(decided.sort()).toEqual(WITH_INSTALL_SCRIPT);
    const allowed = Object.entries(manifest.allowScripts).flatMap(([name, may]) => (may ? [name] : []));
    expect(allowed).toEqual(['@photostructure/sqlite']);
  });
});

it('every package of an installation without development is under a licence that is known', () => {
  const others = production.filter(([, { license }]) => !LICENCES.includes(license ?? ''));
  expect(others.map(nameOf)).toEqual([]);
});

it('what is installed says the same of its licence as the lock file', () => {
  for (const [place, { license }] of production) {
    let installed: { license?: string };
    try {
      installed = JSON.parse(readFileSync(`${place}/package.json`, 'utf8'));
    } catch {
      continue; // for another platform
    }
    expect([place, installed.license]).toEqual([place, license]);
  }
});

it('the bill of materials holds every package of such an installation, with licence, hash and purl', () => {
  const { stdout, stderr } = spawnSync(process.execPath, ['dist/scripts/make-sbom.js'], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const { bomFormat, metadata, components } = JSON.parse(stdout) as {
    bomFormat: string;
    metadata: { component: { name: string; type: string } };
    components: { purl: string; licenses?: unknown[]; hashes?: unknown[] }[];
  };
  expect([bomFormat, metadata.component]).toEqual([
    'CycloneDX',
    expect.objectContaining({ name: 'keyledger', type: 'application' }),
  ]);
  const told = components.map(({ purl }) => decodeURIComponent(purl.slice('pkg:npm/'.length)));
  expect([...new Set(told)].sort()).toEqual([...new Set(production.map(nameOf))].sort());
  expect(components.filter(({ licenses, hashes }) => !licenses?.length || !hashes?.length)).toEqual([]);
});

it('the image is made from a version that is named in full', () => {
  const bases = [...readFileSync('Dockerfile', 'utf8').matchAll(/^FROM (\S+)/gm)].map(([, base]) => base);
  expect(bases).toHaveLength(2);
  expect(bases.filter((base) => !/^node:\d+\.\d+\.\d+-bookworm-slim$/.test(base ?? ''))).toEqual([]);
  expect(new Set(bases).size).toBe(1);
});
