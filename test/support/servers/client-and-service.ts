import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach } from '@jest/globals';
import { type Client, type ClientOptions, createClient, KeyledgerClientError } from '../../../src/sdk/client/index.js';
import { type Running, runService } from './service.js';
import { type UnreliableProxy, unreliableProxy } from './unreliable-proxy.js';

export let service: Running;
export let proxy: UnreliableProxy;
/** Token of an admin of every repository. */
export let token: string;
/** Repository without keys, another one for each test. */
export let repoId: string;

export const key = { name: 'search', aiType: 'OPENAI' } as const;

/** Client that reaches the service through the proxy. */
export const client = (options: Partial<ClientOptions> = {}): Client =>
  createClient({ baseUrl: proxy.url, token, ...options });

/** Within a test: changes to another repository, and resets the proxy. */
export function resetClientAndProxy(): void {
  proxy.reset();
  repoId = `shop-${randomUUID()}`;
}

/** Runs the service and the proxy for the tests of a file. */
export function runClientAndService(): void {
  beforeAll(async () => {
    service = await runService({ RATE_LIMIT: '0' });
    token = await service.token('admin', '*');
    proxy = await unreliableProxy(service.url);
  });
  afterAll(async () => {
    await proxy.stop();
    await service.stop();
  });
  beforeEach(resetClientAndProxy);
}

/** Error of a call that must fail with a KeyledgerClientError. */
export async function errorOf(call: Promise<unknown>): Promise<KeyledgerClientError> {
  const error = await call.then(
    () => 'it succeeded',
    (reason: unknown) => reason,
  );
  if (!(error instanceof KeyledgerClientError)) throw new Error('No KeyledgerClientError', { cause: error });
  return error;
}

/** Requests that the proxy received: method and URL, and the body, if there was one. */
export const requests = (): [string, unknown][] =>
  proxy.seen.map(({ method, url, body }) => [`${method} ${url}`, body === '' ? undefined : JSON.parse(body)]);
