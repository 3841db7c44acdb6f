import { nameOf, production } from './production-packages.js';

/** Prints what the packages of an installation without development are licensed under. */
for (const entry of production) console.log(`${entry[1].license}\t${nameOf(entry)}`);
