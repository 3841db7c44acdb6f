import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect } from '@jest/globals';
import type { Child } from '../servers/child-service.js';
import type { Json } from '../servers/service.js';
import { answersIn, exchange, type RawAnswer } from './raw-client.js';

/** What tests say to a service in bytes, and what it makes of that. */

const KEYS = '/repo/shop/ai/apikey';
export const LIVE = 'GET /health/live HTTP/1.1\r\nHost: x\r\n';

/** The server has ended it; our side may stay open. */
export const over = (socket: Socket): Promise<unknown> =>
  Promise.race([once(socket, 'end'), once(socket, 'close')]);

export const creation = (name: string): string => JSON.stringify({ name, aiType: 'AWS' });

/** A request to create a key, as it should be but for what is changed. */
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

/** The names of the keys that there are. */
export async function namesOf(child: Child, token: string): Promise<unknown[]> {
  const { json } = await child.ask('GET', KEYS, { token });
  return (json['apiKeys'] as Json[]).map(({ name }) => name);
}

export const answersTo = async ({ url }: Child, bytes: string): Promise<RawAnswer[]> =>
  answersIn(await exchange(url, bytes));

/** The one answer, which is an error with its envelope. */
export async function refusalOf(child: Child, bytes: string): Promise<[status: number, code: unknown]> {
  const [answer, ...more] = await answersTo(child, bytes);
  expect(more).toEqual([]);
  const envelope = JSON.parse(answer?.body ?? '') as Json;
  const requestId = answer?.headers['x-request-id'];
  expect(envelope).toMatchObject({ success: false, message: expect.any(String), requestId });
  return [answer?.status ?? 0, envelope['code']];
}
