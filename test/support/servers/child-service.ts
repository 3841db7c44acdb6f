import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { loadConfig } from '../../../src/config.js';
import { eventually } from '../assertions/eventually.js';
import { type Answer, type Ask, ask, tokenFor } from './service.js';

export const CLI = 'dist/src/cli.js';

export type Child = {
  readonly url: string;
  readonly process: ChildProcess;
  /** Everything that the process has printed. */
  readonly output: () => string;
  token(role: string, subject?: string): Promise<string>;
  ask(method: string, path: string, request?: Ask): Promise<Answer>;
  /**
   * Sends a signal and waits for the exit.
   * @returns exit code, null if the signal ended the process
   */
  end(signal: NodeJS.Signals): Promise<number | null>;
};

/** `keyledger serve` as a child process, on a free port, when it is ready. */
export async function spawnService(folder: string, settings: NodeJS.ProcessEnv = {}): Promise<Child> {
  const child = await spawnListening(folder, settings);
  await eventually(async () => (await fetch(`${child.url}/health/ready`)).ok);
  return child;
}

/** As spawnService, as soon as it listens. */
export async function spawnListening(folder: string, settings: NodeJS.ProcessEnv = {}): Promise<Child> {
  const environment = { DATA_DIR: folder, PORT: '0', LOG_LEVEL: 'warn', ...settings };
  const child = spawn(process.execPath, [CLI, 'serve'], {
    env: { PATH: process.env['PATH'], ...environment },
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
  }
  const exited = once(child, 'exit');
  await eventually(() => /listens on/.test(printed) || child.exitCode !== null);
  const url = /listens on\s+(\S+)/.exec(printed)?.[1];
  if (!url) throw new Error(`The service did not start: ${printed}`);
  return {
    url,
    process: child,
    output: () => printed,
    token: (role, subject = 'ada') => tokenFor(loadConfig(environment), { '*': role }, subject),
    ask: (method, path, request) => ask(url + path, method, request),
    end: async (signal) => {
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
  };
}
