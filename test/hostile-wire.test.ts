import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { connectTo, exchange } from './support/http/raw-client.js';
import { answersTo, connectionEnded, create, creation, LIVE, namesOf, refusalOf } from './support/http/wire.js';
import { type Child, spawnService } from './support/servers/child-service.js';

const folder = temporaryFolder();
let child: Child;
let token: string;
beforeAll(async () => {
  child = await spawnService(folder.path, { RATE_LIMIT: '0' });
  token = await child.token('admin');
});
afterAll(async () => {
  expect(child.process.exitCode).toBeNull();
  await child.end('SIGKILL');
  folder.remove();
});

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
    ['two tokens', `${LIVE}Authorization: Bearer a\r\nAuthorization: Bearer b\r\nConnection: close\r\n\r\n`, 400],
    ['a length of -1', `${LIVE}Content-Length: -1\r\n\r\n`, 400],
    ['a length in hexadecimal', `${LIVE}Content-Length: 0x5\r\n\r\nabcde`, 400],
    ['two lengths in one header', `${LIVE}Content-Length: 5, 5\r\n\r\nabcde`, 400],
    ['a length beyond every number', `${LIVE}Content-Length: ${'9'.repeat(30)}\r\n\r\n`, 400],
    ['a length and chunks', `${LIVE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['chunks and a length', `${LIVE}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`, 400],
    ['something else than chunks', `${LIVE}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400],
    ['chunks that are not the last encoding', `${LIVE}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`, 400],
    ['chunks without a size', `${LIVE}Transfer-Encoding: chunked\r\n\r\nXY\r\nabc\r\n0\r\n\r\n`, 400],
    ['chunks of a negative size', `${LIVE}Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n`, 400],
    ['chunks beyond every number', `${LIVE}Transfer-Encoding: chunked\r\n\r\n${'f'.repeat(30)}\r\n`, 400],
  ])('%s', async (_, bytes, status) => {
    const code = status === 431 ? 'HEADERS_TOO_LARGE' : 'INVALID_INPUT';
    expect(await refusalOf(child, bytes)).toEqual([status, code]);
  });

  it('a body in chunks that together are too large', async () => {
    const chunks = `1000\r\n${'['.repeat(0x1000)}\r\n`.repeat(30);
    const bytes = create(token, `${chunks}0\r\n\r\n`, ['Transfer-Encoding: chunked', 'Connection: close']);
    expect(await refusalOf(child, bytes)).toEqual([413, 'BODY_TOO_LARGE']);
  });

  it('a request behind one whose length is in doubt is never served (smuggling)', async () => {
    for (const framing of [
      ['Content-Length: 5', 'Transfer-Encoding: chunked'],
      ['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'],
      ['Transfer-Encoding:\x0bchunked', 'Content-Length: 5'],
      ['Content-Length: 5', 'Content-Length: 6'],
    ]) {
      const smuggled = create(token, creation('smuggled'));
      expect(
        (await answersTo(child, create(token, `0\r\n\r\n${smuggled}`, framing))).map(({ status }) => status),
      ).toEqual([400]);
    }
    expect(await namesOf(child, token)).not.toContain('smuggled');
  });
});

describe('what is cut short', () => {
  it('changes nothing, whatever its length says', async () => {
    const body = creation('cut');
    for (const bytes of [
      create(token, body).slice(0, -1),
      create(token, body, [`Content-Length: ${body.length + 1}`]),
    ]) {
      const socket = connectTo(child.url);
      socket.end(bytes);
      socket.resume();
      await connectionEnded(socket);
    }
    // One byte too few: not JSON.
    expect(
      await refusalOf(child, create(token, body, [`Content-Length: ${body.length - 1}`, 'Connection: close'])),
    ).toEqual([400, 'INVALID_INPUT']);
    expect(await namesOf(child, token)).not.toContain('cut');
  });
});

describe('pipelined requests on one connection', () => {
  it('are all answered, in their order', async () => {
    const paths = Array.from({ length: 100 }, (_, i) => (i % 3 === 0 ? '/health/live' : `/nothing/${i}`));
    const requests = paths.map((path, i) => {
      const last = i === paths.length - 1 ? 'Connection: close\r\n' : '';
      return `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r${i}\r\n${last}\r\n`;
    });
    const answers = await answersTo(child, requests.join(''));
    expect(answers.map(({ headers }) => headers['x-request-id'])).toEqual(paths.map((_, i) => `r${i}`));
    expect(answers.map(({ status }) => status)).toEqual(paths.map((_, i) => (i % 3 === 0 ? 200 : 404)));
  });

  it('do not get the refusal of a later one', async () => {
    const body = creation('before garbage');
    const first = create(token, body, [`Content-Length: ${body.length}`]);
    const answers = await answersTo(child, `${first}GARBAGE\r\n\r\n`);
    // The service accepted the request: its answer may be lost, but never belongs to another.
    for (const { status } of answers.slice(0, 1)) expect(status).toBe(201);
    await eventually(async () => (await namesOf(child, token)).includes('before garbage'));
  });

  it('leave a stream as it is: nothing is written into its middle', async () => {
    const stream = `GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`;
    const socket = connectTo(child.url);
    let received = '';
    socket.on('data', (piece) => {
      if (!received.includes('caught-up') && piece.includes('caught-up')) socket.write('GARBAGE\r\n\r\n');
      received += piece.toString();
    });
    socket.write(stream);
    await connectionEnded(socket);
    expect(received).toContain('caught-up');
    expect(received).not.toContain('The request is not valid HTTP');
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
    const answers = await answersTo(child, head + end);
    expect(answers.map((answer) => answer.status)).toEqual([status]);
    expect(answers[0]?.body).not.toContain('a=secret');
    if (status >= 400) expect(JSON.parse(answers[0]?.body ?? '')).toMatchObject({ success: false });
  });

  it('CONNECT opens no way to anywhere', async () => {
    expect(await exchange(child.url, 'CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n')).toBe(
      '',
    );
  });
});
