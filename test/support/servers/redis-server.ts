import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { temporaryFolder } from '../fixtures/temp-folder.js';
import { serverEnvironment } from './server-environment.js';

export type RedisServer = { readonly url: string; stop(signal?: NodeJS.Signals): Promise<void> };

const HOW = 'set REDIS_URL, install redis-server, or start Docker';

/** Source of a Redis, if there is one to test against; CI requires it. */
export const redisSource: 'REDIS_URL' | 'redis-server' | 'testcontainers' | undefined = process.env['REDIS_URL']
  ? 'REDIS_URL'
  : runs('redis-server', '--version')
    ? 'redis-server'
    : runs('docker', 'info')
      ? 'testcontainers'
      : undefined;

if (!redisSource) {
  if (process.env['CI']) throw new Error(`There is no Redis: ${HOW}`);
  process.stderr.write(`The Redis suites are skipped: ${HOW}\n`);
}

/** Starts a Redis for this suite; `port` is that of an earlier server that has stopped. */
export async function startRedis(port?: number): Promise<RedisServer> {
  const configured = process.env['REDIS_URL'];
  if (configured) return { url: configured, stop: async () => undefined };
  return redisSource === 'testcontainers' ? startContainer() : startServer(port ?? (await freePort()));
}

async function startServer(port: number): Promise<RedisServer> {
  const folder = temporaryFolder();
  const settings = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--dir',
    folder.path,
    '--maxmemory-policy',
    'noeviction',
  ];
  const server = spawn('redis-server', settings, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: serverEnvironment(),
  });
  const exited = once(server, 'exit');
  for await (const text of server.stdout.setEncoding('utf8')) if (/Ready to accept connections/.test(text)) break;
  server.stdout.resume();
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: async (signal = 'SIGTERM') => {
      server.kill(signal);
      await exited;
      folder.remove();
    },
  };
}

async function startContainer(): Promise<RedisServer> {
  const { GenericContainer } = await import('testcontainers');
  const container = await new GenericContainer('redis:7.4').withExposedPorts(6379).start();
  return {
    url: `redis://${container.getHost()}:${container.getMappedPort(6379)}`,
    stop: async () => void (await container.stop()),
  };
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  return port;
}

function runs(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 5000 }).status === 0;
}
