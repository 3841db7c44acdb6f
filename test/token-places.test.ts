import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { answersIn, exchange } from './support/http/raw-client.js';
import { type Running, runService, tokenFor } from './support/servers/service.js';

const KEYS = '/repo/shop/ai/apikey';

let service: Running;
let token: string;
beforeAll(async () => {
  service = await runService();
  token = await service.token('admin');
});
afterAll(() => service.stop());

/** Status of a request with these header lines. */
async function statusOf(lines: readonly string[], target = KEYS): Promise<number | undefined> {
  const head = [`GET ${target} HTTP/1.1`, 'Host: x', 'Connection: close', ...lines, '', ''].join('\r\n');
  return answersIn(await exchange(service.url, head))[0]?.status;
}

describe('a token', () => {
  it('is taken as Bearer from its header', async () => {
    expect(await statusOf([`Authorization: Bearer ${token}`])).toBe(200);
    expect(await statusOf([`authorization: bearer   ${token}  `])).toBe(200);
  });

  it('is taken from nowhere else', async () => {
    for (const name of ['access_token', 'token', 'authorization', 'jwt', 'bearer']) {
      expect(await statusOf([], `${KEYS}?${name}=${token}`)).toBe(401);
      expect(await statusOf([`Cookie: ${name}=${token}`])).toBe(401);
    }
    for (const name of ['X-Authorization', 'Proxy-Authorization', 'X-Access-Token', 'Token']) {
      expect(await statusOf([`${name}: Bearer ${token}`])).toBe(401);
    }
  });

  it('is refused as another scheme, or with anything before, after or in it', async () => {
    for (const value of [
      token,
      `Basic ${token}`,
      `Bearer`,
      `Bearer${token}`,
      `Bearer\t${token}`,
      `Bearer "${token}"`,
      `Bearer ${token} x`,
      `Bearer ${token}, Bearer ${token}`,
      `Bearer x, Bearer ${token}`,
      `Bearer ${token},`,
      `Bearer ${token.replace('.', '. ')}`,
      `Bearer ${token}%00`,
      `Bearer ${token.replaceAll('.', '%2e')}`,
      `Bearer ${'a.'.repeat(7000)}a`,
    ]) {
      expect([value, await statusOf([`Authorization: ${value}`])]).toEqual([value, 401]);
    }
  });

  it('next to another one is refused, whichever is valid', async () => {
    for (const pair of [
      [token, 'x'],
      ['x', token],
      [token, token],
    ]) {
      expect(await statusOf(pair.map((one) => `Authorization: Bearer ${one}`))).toBe(400);
    }
  });
});

describe('what a token grants', () => {
  /** Status of a list in a repository with a token of these grants. */
  const listIn = async (repoId: string, grants: object) => {
    const bearer = await tokenFor(service.config, grants, 'ada');
    return statusOf([`Authorization: Bearer ${bearer}`], `/repo/${repoId}/ai/apikey`);
  };

  it('is nothing in repositories that are named like a part of every object', async () => {
    const names = ['__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty'];
    for (const repoId of names) expect(await listIn(repoId, { shop: 'admin' })).toBe(403);
    const named: object = JSON.parse('{"__proto__":"admin","constructor":"admin"}');
    expect(await listIn('__proto__', named)).toBe(200);
    for (const repoId of ['shop', 'toString', 'prototype']) expect(await listIn(repoId, named)).toBe(403);
  });

  it('is nothing for a role that there is not, though every object has one of the name', async () => {
    const roles = ['constructor', '__proto__', 'toString', 'Admin', 'admin ', '*', '', 0, true, null, ['admin']];
    for (const role of [...roles, { admin: true }, { toString: 'admin' }]) {
      expect([role, await listIn('shop', { shop: role })]).toEqual([role, 403]);
    }
    expect(await listIn('shop', JSON.parse('{"__proto__":{"shop":"admin"}}'))).toBe(403);
  });

  it('is for every repository with * alone, and less where a repository is named', async () => {
    expect(await listIn('shop', { '*': 'viewer' })).toBe(200);
    for (const pattern of ['**', 'sh*', '.*', '?hop', 'SHOP', 'shop ', 'shop,other', '%2a', '']) {
      expect([pattern, await listIn('shop', { [pattern]: 'admin' })]).toEqual([pattern, 403]);
    }
    expect(await listIn('shop', { '*': 'admin', shop: 'verifier' })).toBe(403);
    expect(await listIn('shop', { '*': 'admin', shop: null })).toBe(403);
    expect(await listIn('*', { shop: 'admin' })).toBe(403);
    expect(await listIn('*', { '*': 'admin' })).toBe(400);
  });
});
