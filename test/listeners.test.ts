import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { answersIn } from './support/http/raw-client.js';
import { type Running, runService } from './support/servers/service.js';

let service: Running | undefined;
afterEach(() => service?.stop());

async function exchangeWith(host: string, port: number, bytes: string): Promise<string> {
  const socket = createConnection({ host, port, allowHalfOpen: true });
  let received = '';
  socket.setEncoding('latin1').on('data', (piece) => {
    received += piece;
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await Promise.race([once(socket, 'end'), once(socket, 'close')]);
  socket.destroy();
  return received;
}

const filler = 'a:\r\n'.repeat(2100);
const HOSTILE: readonly [what: string, bytes: string, status: number][] = [
  ['garbage', 'GARBAGE\r\n\r\n', 400],
  ['two Hosts', 'GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n', 400],
  ['too large headers', `GET /metrics HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
  ['an expectation', 'GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nConnection: close\r\n\r\n', 417],
  [
    'headers without end before the second token',
    `GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: a\r\n${filler}Authorization: b\r\n\r\n`,
    400,
  ],
  ['another method', 'POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n', 405],
];

describe('every listener', () => {
  it.each(['127.0.0.1', '::1'])('of HOST=localhost answers in the envelope, on %s too', async (host) => {
    service = await runService({ HOST: 'localhost' });
    for (const [what, bytes, status] of HOSTILE) {
      const [answer] = answersIn(await exchangeWith(host, Number(new URL(service.url).port), bytes));
      expect([what, answer?.status]).toEqual([what, status]);
      expect(JSON.parse(answer?.body ?? '')).toMatchObject({ success: false });
    }
  });

  it('of METRICS_PORT answers in the envelope', async () => {
    service = await runService({ METRICS_PORT: '0' });
    const { hostname, port } = new URL(service.metricsUrl ?? '');
    for (const [what, bytes, status] of HOSTILE) {
      const [answer] = answersIn(await exchangeWith(hostname, Number(port), bytes));
      expect([what, answer?.status]).toEqual([what, status]);
      expect(JSON.parse(answer?.body ?? '')).toMatchObject({ success: false });
    }
    expect((await fetch(`http://${hostname}:${port}/repo/shop/ai/apikey`)).status).toBe(404);
  });

  it('lets a request under way finish when the service stops', async () => {
    service = await runService({ HOST: 'localhost' });
    const { port } = new URL(service.url);
    const token = await service.token('admin');
    const body = '{"name":"late","aiType":"AWS"}';
    const head = `POST /repo/shop/ai/apikey HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`;
    const socket = createConnection({ host: '::1', port: Number(port) });
    let received = '';
    socket.setEncoding('utf8').on('data', (piece) => {
      received += piece;
    });
    socket.write(head);
    await once(socket, 'data');
    const stopped = service.stop();
    service = undefined;
    socket.write(body);
    await Promise.race([once(socket, 'end'), once(socket, 'close')]);
    expect(received).toContain('HTTP/1.1 201 Created');
    socket.destroy();
    await stopped;
  });
});
