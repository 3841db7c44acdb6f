/** Variables that a program needs to run at all, none of which is a setting of a server. */
const NEEDED = ['PATH', 'HOME', 'TMPDIR', 'LANG'];

/**
 * Environment for a server that the tests or the torture start. Variables of this process stay out of it: a server
 * may take them for options of its own, as EventStoreDB takes every EVENTSTORE_*.
 */
export const serverEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(NEEDED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
