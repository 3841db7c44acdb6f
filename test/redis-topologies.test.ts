import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { openRedisLastUsedStore } from '../src/last-used/redis-last-used.js';
import type { ReadModel } from '../src/projections/read-model.js';
import { openRedisReadModel } from '../src/projections/redis/read-model.js';
import { connectRedis, warnAboutDurability } from '../src/redis/connection.js';
import { eventually } from './support/assertions/eventually.js';
import { describeLastUsedStore, untilAvailable } from './support/contracts/last-used-store.js';
import { describeReadModel } from './support/contracts/read-model.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { freePort, redisSource } from './support/servers/redis-server.js';
import { serverEnvironment } from './support/servers/server-environment.js';

const quiet = pino({ level: 'silent' });
const folder = temporaryFolder();
const servers: ChildProcess[] = [];

/** Starts a server with its own folder, and waits until it answers. */
async function start(port: number, settings: string[], mode: string[] = []): Promise<void> {
  const file = join(folder.path, `${port}.conf`);
  writeFileSync(file, [`port ${port}`, 'bind 127.0.0.1', `dir ${folder.path}`, ...settings, ''].join('\n'));
  servers.push(spawn('redis-server', [file, ...mode], { stdio: 'ignore', env: serverEnvironment() }));
  const probe = new Redis(port, '127.0.0.1', { retryStrategy: () => 20 });
  probe.on('error', () => undefined);
  await probe.ping();
  probe.disconnect();
}

afterAll(async () => {
  for (const server of servers) {
    const exited = once(server, 'exit');
    server.kill('SIGKILL');
    await exited;
  }
  folder.remove();
});

const ready = async (url: string): Promise<ReadModel> => {
  const model = openRedisReadModel(url, `test-${randomUUID()}`, quiet);
  await eventually(() =>
    model.checkpoint('any').then(
      () => true,
      () => false,
    ),
  );
  return model;
};

const readyUsage = (url: string) => untilAvailable(openRedisLastUsedStore(url, 'test'));

const whereServersCanBeStarted = redisSource === 'redis-server' ? describe : describe.skip;

describe('the host of a URL', () => {
  it.each([
    'redis://127.0.0.2:PORT',
    'redis://user:password@127.0.0.2:PORT/1',
    'redis+sentinel://127.0.0.2:PORT/main',
    'redis+cluster://127.0.0.2:PORT',
  ])('%s is the one that is connected to', async (url) => {
    const server = createServer().listen(0, '127.0.0.2');
    await once(server, 'listening');
    const connection = connectRedis(url.replace('PORT', String((server.address() as AddressInfo).port)));
    const [socket] = await once(server, 'connection');
    expect(socket.localAddress).toBe('127.0.0.2');
    server.close();
    socket.destroy();
    await once(socket, 'close');
    connection.disconnect();
  });
});

whereServersCanBeStarted('a cluster of three', () => {
  let url: string;
  beforeAll(async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    for (const port of ports)
      await start(port, [
        'cluster-enabled yes',
        `cluster-config-file ${port}.nodes`,
        `cluster-port ${await freePort()}`,
      ]);
    const nodes = ports.map((port) => `127.0.0.1:${port}`);
    spawnSync('redis-cli', ['--cluster', 'create', ...nodes, '--cluster-yes'], { timeout: 15_000 });
    url = `redis+cluster://${nodes.join(',')}`;
  }, 30_000);
  describeReadModel('Redis Cluster', () => ready(url));
  describeLastUsedStore('Redis Cluster', () => readyUsage(url));
});

whereServersCanBeStarted('a master behind a Sentinel', () => {
  let url: string;
  beforeAll(async () => {
    const [master, sentinel] = [await freePort(), await freePort()];
    await start(master, []);
    await start(sentinel, [`sentinel monitor main 127.0.0.1 ${master} 1`], ['--sentinel']);
    url = `redis+sentinel://127.0.0.1:${sentinel}/main`;
  });
  describeReadModel('Redis behind a Sentinel', () => ready(url));
  describeLastUsedStore('Redis behind a Sentinel', () => readyUsage(url));
});

whereServersCanBeStarted('at the start', () => {
  const warnings = async (settings: string[]) => {
    const port = await freePort();
    await start(port, settings);
    const lines: string[] = [];
    const connection = connectRedis(`redis://127.0.0.1:${port}`);
    await eventually(() => connection.status === 'ready');
    await warnAboutDurability(connection, pino({ level: 'warn' }, { write: (line) => void lines.push(line) }));
    connection.disconnect();
    return lines.map((line) => JSON.parse(line).msg as string);
  };

  it('warns of eviction and of missing persistence', async () => {
    expect(await warnings(['maxmemory-policy allkeys-lru', 'save ""'])).toEqual([
      expect.stringContaining('maxmemory-policy allkeys-lru'),
      expect.stringContaining('keeps nothing on disk'),
    ]);
  });

  it('has nothing to say of a server that is set up well', async () => {
    expect(await warnings(['maxmemory-policy noeviction', 'appendonly yes'])).toEqual([]);
    expect(await warnings(['save 60 1'])).toEqual([]);
  });
});

describe('a rediss URL', () => {
  it('begins with a TLS handshake', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const connection = connectRedis(`rediss://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const [socket] = await once(server, 'connection');
    const [bytes] = await once(socket, 'data');
    expect(bytes[0]).toBe(0x16);
    connection.disconnect();
    socket.destroy();
    server.close();
  });
});
