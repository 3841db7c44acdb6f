import { nameOf, production } from './production-packages.js';

/** Prints the licences of the production packages. */
for (const entry of production) console.log(`${entry[1].license}\t${nameOf(entry)}`);
