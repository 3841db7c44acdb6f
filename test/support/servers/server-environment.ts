/** Variables that a program needs to run, none of which configures a server. */
const NEEDED = ['PATH', 'HOME', 'TMPDIR', 'LANG'];

/**
 * Environment for a server that the tests or the torture start. It excludes other variables of this process, which a
 * server may take for its own options: EventStoreDB reads every EVENTSTORE_*.
 */
export const serverEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(NEEDED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
