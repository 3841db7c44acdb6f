import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { backup, DatabaseSync } from '@photostructure/sqlite';
import { freePort } from '../test/support/servers/redis-server.js';
import { serverEnvironment } from '../test/support/servers/server-environment.js';
import { ServerProcess } from './server-process.js';

/** The log from its operator's view: what may fail, and how to copy and restore it. */
export type TorturedLog = {
  /** URL that the checks open. */
  readonly url: string;
  /** Port, if the log is a server. */
  readonly port: number | undefined;
  readonly server: ServerProcess | undefined;
  /** Copies the running log, in place of the previous copy. */
  copy(): Promise<void>;
  /** Restores the copy; nobody uses the log meanwhile. */
  restore(): Promise<void>;
  stop(): Promise<void>;
};

export function sqliteLog(folder: string): TorturedLog {
  const file = join(folder, 'keyledger.db');
  const kept = join(folder, 'copy.db');
  return {
    url: `sqlite:${file}`,
    port: undefined,
    server: undefined,
    copy: async () => {
      rmSync(kept, { force: true });
      const database = new DatabaseSync(file, { readOnly: true });
      try {
        await backup(database, kept);
      } finally {
        database.close();
      }
    },
    restore: async () => {
      for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true });
      cpSync(kept, file);
    },
    stop: async () => undefined,
  };
}

/** Command that starts a server in the foreground, with the placeholders {port} and {folder}. */
const COMMAND =
  'kurrentd --insecure --node-ip 127.0.0.1 --node-port {port} --db {folder} --log {folder}-logs --mem-db false';

/** Variable that names the command. EventStoreDB and KurrentDB reject unknown variables with their own prefixes. */
export const COMMAND_VARIABLE = 'KEYLEDGER_EVENTSTOREDB_COMMAND';

/**
 * Command that starts an EventStoreDB or KurrentDB: that of COMMAND_VARIABLE, or the one of its package. It must become
 * the server, so that a signal to it reaches the server.
 */
export function eventStoreDbCommand(): string | undefined {
  const configured = process.env[COMMAND_VARIABLE];
  if (configured) return configured;
  return spawnSync('kurrentd', ['--version'], { stdio: 'ignore', env: serverEnvironment() }).status === 0
    ? COMMAND
    : undefined;
}

export async function eventStoreDbLog(folder: string, command: string): Promise<TorturedLog> {
  const port = await freePort();
  const data = join(folder, 'eventstoredb');
  const kept = join(folder, 'eventstoredb-copy');
  mkdirSync(data);
  const words = command.replaceAll('{port}', String(port)).replaceAll('{folder}', data).split(/\s+/);
  const server = new ServerProcess(words, async () => {
    const response = await fetch(`http://127.0.0.1:${port}/health/live`);
    return response.status === 204;
  });
  await server.start();
  return {
    url: `esdb://127.0.0.1:${port}?tls=false`,
    port,
    server,
    // As its manual says: checkpoints first, so that they refer to nothing that the chunks copied after them lack.
    copy: async () => {
      await rm(kept, { recursive: true, force: true });
      mkdirSync(kept);
      const files = readdirSync(data, { withFileTypes: true });
      const checkpoints = files.filter(({ name }) => name.endsWith('.chk'));
      const chunks = files.filter(({ name }) => name.startsWith('chunk-'));
      for (const { name } of [...checkpoints, ...chunks]) await cp(join(data, name), join(kept, name));
    },
    // Leaves out the index: the server rebuilds it from the chunks.
    restore: async () => {
      await server.kill();
      await rm(data, { recursive: true, force: true });
      await cp(kept, data, { recursive: true });
      const chaser = join(data, 'chaser.chk');
      if (existsSync(chaser)) await cp(chaser, join(data, 'truncate.chk'));
      await server.start();
    },
    stop: () => server.kill(),
  };
}
