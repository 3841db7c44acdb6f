import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../test/support/servers/redis-server.js';
import { ServerProcess } from './server-process.js';

export type TorturedRedis = {
  readonly port: number;
  readonly server: ServerProcess;
  flush(): Promise<void>;
};

/** A Redis that writes down what it holds once a second, so that it comes back a little older than it was. */
export async function redis(folder: string): Promise<TorturedRedis> {
  const port = await freePort();
  const data = join(folder, 'redis');
  mkdirSync(data);
  const settings = {
    port: String(port),
    bind: '127.0.0.1',
    dir: data,
    save: '',
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const server = new ServerProcess(['redis-server', ...args], async () =>
    (await say(port, 'PING')).startsWith('+PONG'),
  );
  await server.start();
  return { port, server, flush: async () => void (await say(port, 'FLUSHALL')) };
}

/** One command of Redis by its inline protocol. */
async function say(port: number, command: string): Promise<string> {
  const socket = connect(port, '127.0.0.1').setEncoding('utf8');
  try {
    socket.write(`${command}\r\n`);
    const [answer] = await once(socket, 'data', { signal: AbortSignal.timeout(5000) });
    return answer;
  } finally {
    socket.destroy();
  }
}
