import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type Child, spawnService } from './child-service.js';
import { eventually } from './eventually.js';
import { freshFolder } from './fresh.js';
import { answersIn, connectTo, exchange, type RawAnswer } from './raw-client.js';
import type { Json } from './service.js';

const KEYS = '/repo/shop/ai/apikey';
const LIVE = 'GET /health/live HTTP/1.1\r\nHost: x\r\n';

const folder = freshFolder();
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

const creation = (name: string) => JSON.stringify({ name, aiType: 'AWS' });
/** A request to create a key, as it should be but for what is changed. */
const create = (body: string, headers = [`Content-Length: ${body.length}`, 'Connection: close']) =>
  [
    `POST ${KEYS} HTTP/1.1`,
    'Host: x',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json',
    ...headers,
    '',
    body,
  ].join('\r\n');
const names = async (): Promise<unknown[]> => {
  const { json } = await child.ask('GET', KEYS, { token });
  return (json['apiKeys'] as Json[]).map(({ name }) => name);
};
const answersTo = async (bytes: string): Promise<RawAnswer[]> => answersIn(await exchange(child.url, bytes));

/** The server has ended it; our side may stay open. */
const over = (socket: Socket) => Promise.race([once(socket, 'end'), once(socket, 'close')]);

/** The one answer, which is an error with its envelope. */
async function refusalOf(bytes: string): Promise<[status: number, code: unknown]> {
  const [answer, ...more] = await answersTo(bytes);
  expect(more).toEqual([]);
  const envelope = JSON.parse(answer?.body ?? '') as Json;
  const requestId = answer?.headers['x-request-id'];
  expect(envelope).toMatchObject({ success: false, message: expect.any(String), requestId });
  return [answer?.status ?? 0, envelope['code']];
}

describe('what is no request, or could be taken for two, is refused', () => {
  it.each([
    ['a header of 20,000 characters', `${LIVE}X: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['20,000 headers', `${LIVE}${'a: b\r\n'.repeat(20_000)}\r\n`, 431],
    ['a path of 20,000 characters', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
    ['a name of a header with a space', 'GET /health/live HTTP/1.1\r\nHost : x\r\n\r\n', 400],
    ['a header that goes on in the next line', `${LIVE}X: a\r\n b\r\nHost\r\n\r\n`, 400],
    ['lines without carriage returns', 'GET /health/live HTTP/1.1\nHost: x\n\n', 400],
    ['a NUL in the path', 'GET /health/live\0 HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['a NUL in a header', `${LIVE}X: a\0b\r\n\r\n`, 400],
    ['a method that there is not', 'STEAL /health/live HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['the beginning of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    ['the beginning of TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
    ['two Hosts', `${LIVE}Host: y\r\nConnection: close\r\n\r\n`, 400],
    [
      'two tokens',
      `${LIVE}Authorization: Bearer a\r\nAuthorization: Bearer b\r\nConnection: close\r\n\r\n`,
      400,
    ],
    ['a length of -1', `${LIVE}Content-Length: -1\r\n\r\n`, 400],
    ['a length in hexadecimal', `${LIVE}Content-Length: 0x5\r\n\r\nabcde`, 400],
    ['two lengths in one header', `${LIVE}Content-Length: 5, 5\r\n\r\nabcde`, 400],
    ['a length beyond every number', `${LIVE}Content-Length: ${'9'.repeat(30)}\r\n\r\n`, 400],
    ['a length and chunks', `${LIVE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['chunks and a length', `${LIVE}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`, 400],
    ['something else than chunks', `${LIVE}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400],
    [
      'chunks that are not the last encoding',
      `${LIVE}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['chunks without a size', `${LIVE}Transfer-Encoding: chunked\r\n\r\nXY\r\nabc\r\n0\r\n\r\n`, 400],
    ['chunks of a negative size', `${LIVE}Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n`, 400],
    ['chunks beyond every number', `${LIVE}Transfer-Encoding: chunked\r\n\r\n${'f'.repeat(30)}\r\n`, 400],
  ])('%s', async (_, bytes, status) => {
    const code = status === 431 ? 'HEADERS_TOO_LARGE' : 'INVALID_INPUT';
    expect(await refusalOf(bytes)).toEqual([status, code]);
  });

  it('a body in chunks that together are too large', async () => {
    const chunks = `1000\r\n${'['.repeat(0x1000)}\r\n`.repeat(30);
    const bytes = create(`${chunks}0\r\n\r\n`, ['Transfer-Encoding: chunked', 'Connection: close']);
    expect(await refusalOf(bytes)).toEqual([413, 'BODY_TOO_LARGE']);
  });

  it('a request behind one whose length is in doubt is never served (smuggling)', async () => {
    for (const framing of [
      ['Content-Length: 5', 'Transfer-Encoding: chunked'],
      ['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'],
      ['Transfer-Encoding:\x0bchunked', 'Content-Length: 5'],
      ['Content-Length: 5', 'Content-Length: 6'],
    ]) {
      const smuggled = create(creation('smuggled'));
      expect((await answersTo(create(`0\r\n\r\n${smuggled}`, framing))).map(({ status }) => status)).toEqual([
        400,
      ]);
    }
    expect(await names()).not.toContain('smuggled');
  });
});

describe('who is slow', () => {
  it('with nothing, a header or a body is told so, and cut off', async () => {
    const [head = ''] = create(creation('slow')).split('{');
    const beginnings = ['', 'GET /hea', `${LIVE}X-Slow: `, head, `${head}{"name":`];
    const refusals = await Promise.all(beginnings.map(refusalOf));
    expect(refusals).toEqual(beginnings.map(() => [408, 'TIMEOUT']));
    expect(await names()).not.toContain('slow');
  });

  it('and sends a little now and then is cut off all the same', async () => {
    const socket = connectTo(child.url);
    let said = '';
    socket.on('data', (piece) => {
      said += piece.toString();
    });
    socket.write(LIVE);
    const timer = setInterval(() => socket.write('x: y\r\n'), 50);
    await over(socket);
    clearInterval(timer);
    expect(answersIn(said)[0]?.status).toBe(408);
  });

  it('to leave after a refusal is not waited for', async () => {
    const sockets = Array.from({ length: MANY }, () => connectTo(child.url).resume());
    for (const socket of sockets) socket.write('GARBAGE\r\n\r\n');
    await Promise.all(sockets.map(over));
    // Our side stays open.
    await eventually(async () => (await connections()) < MANY);
    for (const socket of sockets) socket.destroy();
  });

  it('to read is cut off, and gets no more than had been sent by then', async () => {
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
      await over(socket);
      expect(bytes).toBeLessThan((text.length * asked) / 2);
    }
  });
});

/** More connections than those by which we ask. */
const MANY = 20;

/** How many connections the service holds, ours among them. */
async function connections(): Promise<number> {
  const { text } = await child.ask('GET', '/metrics');
  return Number(/nodejs_active_resources\{type="TCPSocketWrap"\} (\d+)/.exec(text)?.[1]);
}

describe('what is cut short', () => {
  it('changes nothing, whatever its length says', async () => {
    const body = creation('cut');
    for (const bytes of [create(body).slice(0, -1), create(body, [`Content-Length: ${body.length + 1}`])]) {
      const socket = connectTo(child.url);
      socket.end(bytes);
      socket.resume();
      await over(socket);
    }
    // One byte too few: not JSON.
    expect(
      await refusalOf(create(body, [`Content-Length: ${body.length - 1}`, 'Connection: close'])),
    ).toEqual([400, 'INVALID_INPUT']);
    expect(await names()).not.toContain('cut');
  });
});

describe('requests behind each other on one connection', () => {
  it('are all answered, in their order', async () => {
    const paths = Array.from({ length: 100 }, (_, i) => (i % 3 === 0 ? '/health/live' : `/nothing/${i}`));
    const requests = paths.map((path, i) => {
      const last = i === paths.length - 1 ? 'Connection: close\r\n' : '';
      return `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r${i}\r\n${last}\r\n`;
    });
    const answers = await answersTo(requests.join(''));
    expect(answers.map(({ headers }) => headers['x-request-id'])).toEqual(paths.map((_, i) => `r${i}`));
    expect(answers.map(({ status }) => status)).toEqual(paths.map((_, i) => (i % 3 === 0 ? 200 : 404)));
  });

  it('do not get the refusal of what comes behind them', async () => {
    const body = creation('before garbage');
    const first = create(body, [`Content-Length: ${body.length}`]);
    const answers = await answersTo(`${first}GARBAGE\r\n\r\n`);
    // It was taken: its answer may be lost, but is never another's.
    for (const { status } of answers.slice(0, 1)) expect(status).toBe(201);
    await eventually(async () => (await names()).includes('before garbage'));
  });

  it('leave a stream as it is: nothing is written into its middle', async () => {
    const stream = `GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`;
    const socket = connectTo(child.url);
    let said = '';
    socket.on('data', (piece) => {
      if (!said.includes('caught-up') && piece.includes('caught-up')) socket.write('GARBAGE\r\n\r\n');
      said += piece.toString();
    });
    socket.write(stream);
    await over(socket);
    expect(said).toContain('caught-up');
    expect(said).not.toContain('This is not HTTP');
  });
});

describe('what is old or odd, but HTTP', () => {
  it.each([
    ['HTTP/1.0 without a Host', 'GET /health/live HTTP/1.0\r\n\r\n', 200],
    ['the address of another', 'GET http://elsewhere.example/health/live HTTP/1.1\r\nHost: x\r\n', 200],
    ['an address that is none', 'GET http://[ HTTP/1.1\r\nHost: x\r\n', 400],
    ['a path with //', 'GET //health//live HTTP/1.1\r\nHost: x\r\n', 404],
    ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n', 404],
    ['TRACE', 'TRACE /health/live HTTP/1.1\r\nHost: x\r\nCookie: a=secret\r\n', 405],
    ['an upgrade that there is not', `${LIVE}Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n`, 200],
    ['an Expect', `${LIVE}Expect: 200-ok\r\n`, 417],
  ])('%s is answered', async (_, head, status) => {
    const end = head.endsWith('\r\n\r\n') ? '' : 'Connection: close\r\n\r\n';
    const answers = await answersTo(head + end);
    expect(answers.map((answer) => answer.status)).toEqual([status]);
    expect(answers[0]?.body).not.toContain('a=secret');
  });

  it('CONNECT opens no way to anywhere', async () => {
    expect(
      await exchange(child.url, 'CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n'),
    ).toBe('');
  });
});
