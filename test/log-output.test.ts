import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { freshFolder } from './support/fixtures/temp-folder.js';
import { CLI } from './support/servers/child-service.js';

/** Log output that cannot be written costs log lines and nothing else. */

let folder: ReturnType<typeof freshFolder>;
let child: ChildProcess | undefined;
beforeEach(() => {
  folder = freshFolder();
});
afterEach(async () => {
  if (child?.exitCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  folder.remove();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

/** The service, which logs each request, with an output from which the test need not read where it listens. */
async function serve(stdio: StdioOptions) {
  const port = await freePort();
  const env = { PATH: process.env['PATH'], DATA_DIR: folder.path, PORT: String(port), LOG_LEVEL: 'info' };
  const started = spawn(process.execPath, [CLI, 'serve'], { env, stdio });
  child = started;
  const url = `http://127.0.0.1:${port}`;
  await eventually(async () => (await fetch(`${url}/health/live`).catch(() => undefined))?.ok === true);
  const exited = once(started, 'exit');
  return {
    process: started,
    url,
    end: async () => {
      const began = performance.now();
      started.kill('SIGTERM');
      const [code] = await exited;
      expect(performance.now() - began).toBeLessThan(10_000);
      return code as number | null;
    },
  };
}

/** Requests whose log lines have some 700 bytes each: 2,500 are more than what waits for the output. */
async function request(url: string, count: number): Promise<void> {
  for (let sent = 0; sent < count; sent++) {
    const answer = await fetch(`${url}/${'long'.repeat(750)}`);
    expect(answer.status).toBe(404);
    await answer.text();
  }
}

async function dropped(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^keyledger_log_lines_dropped_total (\d+)$/m.exec(text)?.[1]);
}

it('a log line commands no terminal: control, bidirectional and invisible characters are escaped, as JSON has them', () => {
  const msg = '\u001b[31m\u009b31m\u202e\u200b\u2028';
  const script = `
    import { LogOutput } from './dist/src/log-output.js';
    new LogOutput(1).write(JSON.stringify({ msg: ${JSON.stringify(msg)} }) + '\\n');`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect(stdout).toMatch(/^[\x20-\x7e]+\n$/);
  expect(JSON.parse(stdout)).toEqual({ msg });
});

describe('standard output that takes nothing', () => {
  it('on a full disk, leaves the service answering; dropped lines are counted, and SIGTERM ends it', async () => {
    const full = openSync('/dev/full', 'w');
    const service = await serve(['ignore', full, 'inherit']);
    closeSync(full);
    await request(service.url, 2500);
    expect(await dropped(service.url)).toBeGreaterThan(0);
    expect(await service.end()).toBe(0);
  });

  it('behind a reader that stalls, leaves the service answering, and SIGTERM ends it', async () => {
    const service = await serve(['ignore', 'pipe', 'inherit']);
    await request(service.url, 2500);
    expect(await dropped(service.url)).toBeGreaterThan(0);
    expect(await service.end()).toBe(0);
  });

  it('behind a reader that goes on, loses only lines that are counted, and says in one line how many', async () => {
    const service = await serve(['ignore', 'pipe', 'inherit']);
    await request(service.url, 2500);
    const lost = await dropped(service.url);
    let printed = '';
    service.process.stdout?.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
    await eventually(() => printed.includes('Log lines were dropped'));
    await request(service.url, 1);
    await eventually(() => printed.trimEnd().endsWith('"answered"}'));
    const lines = printed.split('\n').filter((line) => line.startsWith('{'));
    const parsed = lines.map((line) => JSON.parse(line) as { msg: string; dropped?: number });
    expect(parsed.filter(({ msg }) => msg.startsWith('Log lines were dropped'))).toEqual([
      expect.objectContaining({ level: 40, dropped: lost }),
    ]);
    expect(await service.end()).toBe(0);
  });

  it('behind a reader that is gone, leaves the service answering, and SIGTERM ends it', async () => {
    const service = await serve(['ignore', 'pipe', 'inherit']);
    service.process.stdout?.destroy();
    await request(service.url, 10);
    expect(await service.end()).toBe(0);
  });
});
