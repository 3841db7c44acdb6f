import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../src/config.js';
import { mintToken } from '../src/security/tokens.js';
import { start } from './servers.js';

/** Instances of the service over one log, each a process of its own, for a benchmark. */
export type Services = {
  /** Prefix of repository names, because the log may hold those of other runs. */
  readonly run: string;
  start(settings?: NodeJS.ProcessEnv): ReturnType<typeof start>;
  token(role: string, repoId: string): Promise<string>;
  /** Ends the remaining instances, and removes their data. */
  remove(): Promise<void>;
};

/** The log is that of EVENT_STORE_URL, the read model that of READ_MODEL_URL, or the default of both. */
export function services(more: NodeJS.ProcessEnv = {}): Services {
  const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
  const { EVENT_STORE_URL = '', READ_MODEL_URL = '' } = process.env;
  const run = `bench-${process.pid}`;
  const environment = {
    DATA_DIR: folder,
    PORT: '0',
    LOG_LEVEL: 'error',
    RATE_LIMIT: '0',
    REDIS_PREFIX: run,
    EVENT_STORE_URL,
    READ_MODEL_URL,
    ...more,
  };
  const { tokens, JWT_REPOS_CLAIM: claim } = loadConfig(environment);
  const started: Awaited<ReturnType<typeof start>>[] = [];
  return {
    run,
    start: async (settings = {}) => {
      const service = await start(['dist/src/cli.js', 'serve'], { ...environment, ...settings });
      started.push(service);
      return service;
    },
    token: (role, repoId) => {
      const { key } = tokens;
      if (key instanceof URL) throw new Error('A benchmark mints its own tokens');
      const grant = { subject: 'bench', grants: { [repoId]: role }, claim, ttlSeconds: 3600 };
      return mintToken({ ...tokens, key }, grant, Date.now());
    },
    remove: async () => {
      for (const { child } of started) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const percentile = (sorted: readonly number[], p: number): number =>
  sorted[Math.ceil(sorted.length * p) - 1] ?? Number.NaN;
