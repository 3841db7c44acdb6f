import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROLES } from '../../src/domain/authorization.js';
import type { Call, Calls, OpenApi } from './http-api.js';

export const CLI = 'dist/src/cli.js';

export type RunningService = {
  /** Every call of /openapi.json, with the roles that may make it. */
  calls(): Promise<Calls>;
  /** The text of /metrics. */
  metrics(): Promise<string>;
};

/** A key set that is never fetched: the service has a metric of its age. */
const WITH_KEY_SET = { JWT_JWKS_URL: 'http://127.0.0.1:9/', JWT_ISSUER: 'issuer', JWT_AUDIENCE: 'audience' };

/** The text of /metrics of a service that has every part. */
export async function allMetrics(): Promise<string> {
  const service = await startService(WITH_KEY_SET);
  return service.use(({ metrics }) => metrics());
}

/** Runs the built service over an empty log on a free port for as long as it is used. */
export async function startService(settings: NodeJS.ProcessEnv = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'keyledger-reference-'));
  const env = { PATH: process.env['PATH'], DATA_DIR: folder, PORT: '0', LOG_LEVEL: 'silent', ...settings };
  const child = spawn(process.execPath, [CLI, 'serve'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const url = await addressOf(child);
  const token = async (role: string) => {
    const args = [CLI, 'token', '--repo', '*', '--role', role];
    return (await promisify(execFile)(process.execPath, args, { env })).stdout.trim();
  };
  const text = async (path: string) => (await fetch(url + path)).text();
  return {
    async use<T>(work: (service: RunningService) => Promise<T>): Promise<T> {
      try {
        return await work({
          calls: async () => withRoles(url, JSON.parse(await text('/openapi.json')), token),
          metrics: () => text('/metrics'),
        });
      } finally {
        child.kill();
        await exited;
        rmSync(folder, { recursive: true });
      }
    },
  };
}

async function addressOf(child: ChildProcess): Promise<string> {
  let printed = '';
  for await (const chunk of child.stdout?.setEncoding('utf8') ?? []) {
    printed += chunk;
    const [, url] = /listens on\s+(\S+)\s/.exec(printed) ?? [];
    if (url !== undefined) return url;
  }
  throw new Error(`The service did not start: ${printed}`);
}

/** Asks each call with a token of each role: 403 means that the role may not make it. */
async function withRoles(url: string, document: OpenApi, token: (role: string) => Promise<string>): Promise<Calls> {
  const tokens = await Promise.all(ROLES.map(async (role) => [role, await token(role)] as const));
  const calls: Call[] = [];
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const roles: string[] = [];
      const target = url + path.replace('{repoId}', 'demo').replace(/\{\w+\}/, 'none');
      for (const [role, bearer] of operation.security ? [] : tokens) {
        const cut = new AbortController();
        const headers = { authorization: `Bearer ${bearer}` };
        const { status } = await fetch(target, { method: method.toUpperCase(), headers, signal: cut.signal });
        cut.abort();
        if (status !== 403) roles.push(role);
      }
      calls.push({ method: method.toUpperCase(), path, operation, roles });
    }
  }
  return { calls, document };
}
