import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { answersIn, connectTo } from './support/http/raw-client.js';
import { connectionEnded, create, creation, LIVE, namesOf, refusalOf } from './support/http/wire.js';
import { type Child, spawnService } from './support/servers/child-service.js';

const folder = temporaryFolder();
let child: Child;
let token: string;
beforeAll(async () => {
  child = await spawnService(folder.path, { RATE_LIMIT: '0', REQUEST_TIMEOUT: '1' });
  token = await child.token('admin');
});
afterAll(async () => {
  expect(child.process.exitCode).toBeNull();
  await child.end('SIGKILL');
  folder.remove();
});

describe('who is slow', () => {
  it('with nothing, a header or a body gets an error, and is cut off', async () => {
    const [head = ''] = create(token, creation('slow')).split('{');
    const beginnings = ['', 'GET /hea', `${LIVE}X-Slow: `, head, `${head}{"name":`];
    const refusals = await Promise.all(beginnings.map((bytes) => refusalOf(child, bytes)));
    expect(refusals).toEqual(beginnings.map(() => [408, 'TIMEOUT']));
    expect(await namesOf(child, token)).not.toContain('slow');
  });

  it('and sends a little from time to time is disconnected, too', async () => {
    const socket = connectTo(child.url);
    let received = '';
    socket.on('data', (piece) => {
      received += piece.toString();
    });
    socket.write(LIVE);
    const timer = setInterval(() => socket.write('x: y\r\n'), 50);
    await connectionEnded(socket);
    clearInterval(timer);
    expect(answersIn(received)[0]?.status).toBe(408);
  });

  it('to leave after a refusal is not waited for', async () => {
    const sockets = Array.from({ length: MANY }, () => connectTo(child.url).resume());
    for (const socket of sockets) socket.write('GARBAGE\r\n\r\n');
    await Promise.all(sockets.map(connectionEnded));
    // The client's side stays open.
    await eventually(async () => (await connections()) < MANY);
    for (const socket of sockets) socket.destroy();
  });

  it('to read is cut off, and gets no more than had been sent by then; a stream may be silent for longer', async () => {
    const stream = connectTo(child.url);
    let streamed = '';
    stream.on('data', (piece) => {
      streamed += piece.toString();
    });
    stream.write(`GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    await eventually(() => streamed.includes('caught-up'));
    const script = '/docs/static/swagger-ui-bundle.js';
    const asked = 100;
    const sockets = Array.from({ length: MANY }, () => connectTo(child.url).pause());
    for (const socket of sockets) socket.write(`GET ${script} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(asked));
    await eventually(async () => (await connections()) >= MANY);
    await eventually(async () => (await connections()) < MANY);
    const { text } = await child.ask('GET', script);
    for (const socket of sockets) {
      let bytes = 0;
      socket.on('data', (piece) => {
        bytes += piece.length;
      });
      socket.resume();
      await connectionEnded(socket);
      expect(bytes).toBeLessThan((text.length * asked) / 2);
    }
    const body = creation('told');
    await child.ask('POST', '/repo/shop/ai/apikey', { token, body });
    await eventually(() => streamed.includes('"name":"told"') || stream.readableEnded);
    expect(stream.readableEnded).toBe(false);
    stream.destroy();
  });
});

/** More connections than the test's own requests use. */
const MANY = 20;

/** Number of connections that the service holds, including the test's. */
async function connections(): Promise<number> {
  const { text } = await child.ask('GET', '/metrics');
  return Number(/nodejs_active_resources\{type="TCPSocketWrap"\} (\d+)/.exec(text)?.[1]);
}
