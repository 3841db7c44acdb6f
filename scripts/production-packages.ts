import { readFileSync } from 'node:fs';

/** An entry of package-lock.json: https://docs.npmjs.com/cli/configuring-npm/package-lock-json */
export type LockedPackage = {
  readonly name?: string;
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly link?: boolean;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
};
export type Manifest = Readonly<Record<string, unknown>> & {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly allowScripts: Readonly<Record<string, boolean>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
};
export type Lock = Readonly<Record<string, unknown>> & {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};

const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as unknown;
export const manifest = read('package.json') as Manifest;
export const lock = read('package-lock.json') as Lock;

/** Every package but our own, as [place in node_modules, entry]. */
export const locked = Object.entries(lock.packages).filter(([place]) => place !== '');
/** Those that an installation without development has. */
export const production = locked.filter(([, { dev }]) => !dev);

export const nameOf = ([place, { name, version }]: readonly [string, LockedPackage]): string =>
  `${name ?? place.replace(/^.*node_modules\//, '')}@${version}`;
