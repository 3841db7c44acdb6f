import { readFileSync } from 'node:fs';

const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');

/** The release of Keyledger, as package.json names it. */
export const VERSION = (JSON.parse(manifest) as { readonly version: string }).version;
