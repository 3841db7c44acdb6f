import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect } from '@jest/globals';
import type { Child } from '../servers/child-service.js';
import type { Json } from '../servers/service.js';
import { answersIn, exchange, type RawAnswer } from './raw-client.js';

/** Requests that tests write byte by byte, and the answers of the service. */

const KEYS = '/repo/shop/ai/apikey';
export const LIVE = 'GET /health/live HTTP/1.1\r\nHost: x\r\n';

/** Settles when the server ends the connection; the client's side may stay open. */
export const connectionEnded = (socket: Socket): Promise<unknown> =>
  Promise.race([once(socket, 'end'), once(socket, 'close')]);

export const creation = (name: string): string => JSON.stringify({ name, aiType: 'AWS' });

/** Request that creates a key; valid unless the test changes the body or the headers. */
export const create = (
  token: string,
  body: string,
  headers = [`Content-Length: ${body.length}`, 'Connection: close'],
): string =>
  [
    `POST ${KEYS} HTTP/1.1`,
    'Host: x',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/json',
    ...headers,
    '',
    body,
  ].join('\r\n');

/** Names of all keys. */
export async function namesOf(child: Child, token: string): Promise<unknown[]> {
  const { json } = await child.ask('GET', KEYS, { token });
  return (json['apiKeys'] as Json[]).map(({ name }) => name);
}

export const answersTo = async ({ url }: Child, bytes: string): Promise<RawAnswer[]> =>
  answersIn(await exchange(url, bytes));

/** Status and code of the single answer, which must be an error envelope. */
export async function refusalOf(child: Child, bytes: string): Promise<[status: number, code: unknown]> {
  const [answer, ...more] = await answersTo(child, bytes);
  expect(more).toEqual([]);
  const envelope = JSON.parse(answer?.body ?? '') as Json;
  const requestId = answer?.headers['x-request-id'];
  expect(envelope).toMatchObject({ success: false, message: expect.any(String), requestId });
  return [answer?.status ?? 0, envelope['code']];
}
