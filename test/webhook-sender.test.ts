import { getEventListeners } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Webhook as Verifier } from 'standardwebhooks';
import { type DeliveryResult, WebhookSender } from '../src/subscribers/webhooks/sender.js';
import { eventually } from './support/assertions/eventually.js';
import { type RawServer, startRawServer } from './support/servers/raw-server.js';
import { type Call, type Receiver, startReceiver } from './support/servers/receiver.js';

const secretOf = (text: string) => `whsec_${Buffer.from(text.padEnd(32, '.')).toString('base64')}`;
const [secret, oldSecret] = [secretOf('new'), secretOf('old')];
const body = JSON.stringify({ type: 'ApiKeyCreated', data: { name: 'Ключ 🔑 of the body' } });
const now = Date.now();
const LOOPBACK = ['127.0.0.0/8'];
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

let sender: WebhookSender;
let receiver: Receiver;
let server: RawServer | undefined;
let going: AbortController;
beforeEach(async () => {
  sender = new WebhookSender(LOOPBACK);
  receiver = await startReceiver();
  going = new AbortController();
});
afterEach(async () => {
  sender.close();
  await receiver.stop();
  await server?.stop();
  server = undefined;
});

const post = (url: string, more: { secrets?: string[]; body?: string; at?: number } = {}, by = sender) =>
  by.send({ url, id: 'msg_1', body, secrets: [secret], ...more }, more.at ?? now, going.signal);

/** Posts to a server that handles each connection this way. */
async function postTo(onConnection: (socket: Socket) => void, by = sender): Promise<DeliveryResult> {
  server = await startRawServer(onConnection);
  return post(`http://127.0.0.1:${server.port}/hook`, {}, by);
}

/** Posts with a short timeout. */
async function postWithShortTimeout(onConnection: (socket: Socket) => void): Promise<DeliveryResult> {
  const hasty = new WebhookSender(LOOPBACK, 150);
  const answer = await postTo(onConnection, hasty);
  await eventually(() => server?.open === 0);
  hasty.close();
  return answer;
}

function expectFailure({ status, error, ms }: DeliveryResult, why: RegExp): void {
  expect(status).toBeNull();
  expect(error).toMatch(why);
  expect(error).toMatch(/^[^\r\n]{1,200}$/);
  for (const part of ['whsec', secret.slice(6), 'ApiKeyCreated', 'of the body', 'Dear diary']) {
    expect(error).not.toContain(part);
  }
  expect(Number.isInteger(ms) && ms >= 0).toBe(true);
}

const once = (socket: Socket, answer: string) => socket.once('data', () => socket.write(answer));

describe('a call', () => {
  it('is signed by each secret, as the verifier of the specification checks it', async () => {
    const answer = await post(receiver.url, { secrets: [secret, oldSecret] });
    expect(answer).toEqual({ status: 204, error: null, ms: expect.any(Number), retryAfterMs: null });
    const [{ headers, text }] = receiver.calls as [Call];
    expect(text).toBe(body);
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'webhook-id': 'msg_1',
      'webhook-timestamp': String(Math.floor(now / 1000)),
    });
    expect(headers['webhook-signature']?.split(' ')).toHaveLength(2);
    for (const each of [secret, oldSecret]) {
      expect(new Verifier(each).verify(text, headers)).toEqual(JSON.parse(body));
    }
    const verify = (by: string, what: string, more = {}) => new Verifier(by).verify(what, { ...headers, ...more });
    expect(() => verify(secretOf('another'), text)).toThrow('signature');
    expect(() => verify(secret, text.replace('Created', 'Deleted'))).toThrow('signature');
    expect(() => verify(secret, text, { 'webhook-id': 'msg_2' })).toThrow('signature');
  });

  it('is not signed by a secret that is not there any more', async () => {
    await post(receiver.url);
    const [{ headers, text }] = receiver.calls as [Call];
    expect(() => new Verifier(oldSecret).verify(text, headers)).toThrow('signature');
  });

  it.each([200, 204, 400, 404, 410, 429, 500, 503, 599])('says that it was answered %d', async (status) => {
    receiver.answer = () => ({ status });
    expect(await post(receiver.url)).toMatchObject({ status, error: null });
    expect(receiver.calls).toHaveLength(1);
  });

  it.each([301, 302, 303, 307, 308])('does not follow a redirect (%d)', async (status) => {
    const location = receiver.url.replace('/hook', '/elsewhere');
    receiver.answer = () => ({ status, headers: { location } });
    expect(await post(receiver.url)).toMatchObject({ status, error: null });
    expect(receiver.calls.map(({ path }) => path)).toEqual(['/hook']);
  });

  it('takes the connection of an earlier one, unless the server closed it meanwhile', async () => {
    let answered = 0;
    expect(
      await postTo((socket) => {
        socket.on('data', () => {
          if (++answered === 3) socket.resetAndDestroy();
          else socket.write(OK);
        });
      }),
    ).toMatchObject({ status: 200 });
    const url = `http://127.0.0.1:${server?.port}/hook`;
    expect(await post(url)).toMatchObject({ status: 200 });
    expect(server?.connections).toBe(1);
    expect(await post(url)).toMatchObject({ status: 200, error: null });
    expect(server?.connections).toBe(2);
  });

  it('leaves nothing behind at the signal', async () => {
    for (let n = 0; n < 3; n++) await post(receiver.url);
    expect(getEventListeners(going.signal, 'abort')).toEqual([]);
  });

  it('is broken off by the signal, and not begun after it', async () => {
    const answer = await postTo((socket) => socket.once('data', () => going.abort()));
    expectFailure(answer, /^the service stops$/);
    await eventually(() => server?.open === 0);
    expectFailure(await post(receiver.url), /^the service stops$/);
    expect(receiver.calls).toEqual([]);
  });
});

describe('an answer', () => {
  const withBody = (bytes: number) => `HTTP/1.1 200 OK\r\ncontent-length: ${bytes}\r\n\r\n${'x'.repeat(bytes)}`;

  it('of 64 KiB is read; of one byte more it is cut, and its status counts', async () => {
    let bytes = 65_536;
    expect(await postTo((socket) => socket.on('data', () => socket.write(withBody(bytes))))).toMatchObject({
      status: 200,
      error: null,
    });
    const url = `http://127.0.0.1:${server?.port}/hook`;
    bytes = 65_537;
    expect(await post(url)).toMatchObject({ status: 200, error: null });
    expect(server?.connections).toBe(1);
    await eventually(() => server?.open === 0);
  });

  it('that never ends is cut, and its status counts', async () => {
    const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
    const flood = (socket: Socket) => {
      while (!socket.destroyed && socket.write(chunk));
    };
    const answer = await postTo((socket) => {
      socket
        .on('drain', () => flood(socket))
        .once('data', () => {
          socket.write('HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n');
          flood(socket);
        });
    });
    expect(answer).toMatchObject({ status: 503, error: null });
    await eventually(() => server?.open === 0);
  });

  it.each([
    ['trickles', 'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n', 'x'],
    ['trickles its head', 'HTTP/1.1 200 OK\r\nx: ', 'x'],
    ['is only ever announced', '', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
    ['never comes', '', ''],
  ])('that %s is waited for until the deadline', async (_, head, drop) => {
    const answer = await postWithShortTimeout((socket) => {
      once(socket, head);
      const dripping = setInterval(() => socket.write(drop), 5);
      socket.on('close', () => clearInterval(dripping));
    });
    expectFailure(answer, /^no answer within 150 ms$/);
  });

  it.each<[string, RegExp, (socket: Socket) => void]>([
    ['a reset', /ECONNRESET/, (socket) => socket.once('data', () => socket.resetAndDestroy())],
    ['an end', /ECONNRESET/, (socket) => socket.once('data', () => socket.end())],
    ['an end at once', /ECONNRESET|EPIPE/, (socket) => socket.end()],
    ['no HTTP', /HPE_/, (socket) => once(socket, 'Dear diary,\r\nto-day\r\n\r\n')],
    ['no status', /HPE_/, (socket) => once(socket, 'HTTP/1.1 OK\r\n\r\n')],
    ['a head too large', /HPE_/, (socket) => once(socket, `HTTP/1.1 200 OK\r\nx: ${'x'.repeat(99_999)}`)],
    [
      'two lengths',
      /HPE_/,
      (socket) => once(socket, 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'),
    ],
    [
      'a body cut short',
      /aborted/,
      (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nDear')),
    ],
    [
      'chunks that are none',
      /HPE_/,
      (socket) => once(socket, 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nDear diary'),
    ],
  ])('that is none (%s) is reported as an error of one line, once', async (_, why, onConnection) => {
    expectFailure(await postTo(onConnection), why);
    expect(server?.connections).toBe(1);
  });

  it('that would speak another protocol is a failure', async () => {
    const answer = await postWithShortTimeout((socket) =>
      once(socket, 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: diary\r\n\r\nDear'),
    );
    expect(answer).toMatchObject({ status: 101, error: null });
  });

  it('is taken after others that only announce it', async () => {
    const early = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n';
    expect(await postTo((socket) => once(socket, early + OK))).toMatchObject({ status: 200 });
  });

  it.each([
    ['stays open', ''],
    ['closes', 'connection: close\r\n'],
  ])('that comes before the body was read counts, from a server that %s', async (what, header) => {
    server = await startRawServer((socket) => {
      socket.pause().write(`HTTP/1.1 200 OK\r\n${header}content-length: 2\r\n\r\nok`);
      if (what === 'closes') socket.end();
    });
    const large = JSON.stringify('x'.repeat(8_000_000));
    const url = `http://127.0.0.1:${server.port}/hook`;
    expect(await post(url, { body: large })).toMatchObject({ status: 200, error: null });
  });

  it('of nobody is a refused connection', async () => {
    await receiver.stop();
    expectFailure(await post(receiver.url), /ECONNREFUSED/);
  });

  it.each([
    ['0', 0],
    ['7', 7_000],
    ['3600', 3_600_000],
    ['3601', 3_600_000],
    ['9'.repeat(400), 3_600_000],
    [new Date((Math.floor(now / 1000) + 60) * 1000).toUTCString(), 60_000 - (now % 1000)],
    [new Date(now - 60_000).toUTCString(), 0],
    [new Date(now + 86_400_000).toUTCString(), 3_600_000],
    ['soon', null],
    ['', null],
    ['12 parsecs', null],
    ['NaN', null],
  ])('with Retry-After: %s asks for %s ms', async (value, retryAfterMs) => {
    receiver.answer = () => ({ status: 503, headers: { 'retry-after': value } });
    expect(await post(receiver.url)).toMatchObject({ status: 503, retryAfterMs });
  });

  it('without Retry-After asks for nothing', async () => {
    receiver.answer = () => ({ status: 503 });
    expect((await post(receiver.url)).retryAfterMs).toBeNull();
  });
});
