import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { type Json, type Running, runService } from './support/servers/service.js';

const keys = '/repo/shop/ai/apikey';
const body = { name: 'search', aiType: 'OPENAI' };
const once = { 'idempotency-key': 'once' };

describe('what cannot be written down first', () => {
  let service: Running;
  let tokens: { admin: string; auditor: string };
  let created: Json;
  let asOf: string;
  beforeAll(async () => {
    service = await runService({ RATE_LIMIT: '0' });
    tokens = { admin: await service.token('admin'), auditor: await service.token('auditor') };
    const made = await service.ask('POST', keys, { token: tokens.admin, body, headers: once });
    created = made.json;
    asOf = `asOf=${made.headers.get('keyledger-position')}`;
  });
  afterAll(() => service.stop());

  const one = () => `${keys}/${created['id']}`;
  const told = (method: string, path: string, more: object = {}) =>
    service.ask(method, path, { token: tokens.auditor, ...more });
  const answers: [string, () => ReturnType<Running['ask']>][] = [
    ['the history of a key', () => told('GET', `${one()}/history`)],
    ['the events of a repository', () => told('GET', '/repo/shop/ai/audit')],
    ['system events', () => told('POST', '/systemevent', { body: { skip: 0, take: 10 } })],
    ['a list as of a moment', () => told('GET', `${keys}?${asOf}`)],
    ['a key as of a moment', () => told('GET', `${one()}?${asOf}`)],
    ['a secret again', () => told('POST', keys, { token: tokens.admin, body, headers: once })],
  ];

  it.each(answers)('is told while the log takes it: %s', async (_, ask) => {
    const answer = await ask();
    expect([200, 201]).toContain(answer.status);
    expect(answer.text).toContain(created['id'] as string);
  });

  describe('when the log takes nothing', () => {
    beforeAll(async () => {
      rmSync(service.config.EVENT_STORE_URL.replace('sqlite:', ''));
      const create = () => service.ask('POST', keys, { token: tokens.admin, body });
      await eventually(async () => (await create()).status === 503);
    });

    it.each(answers)('is not told: %s', async (_, ask) => {
      const answer = await ask();
      expect(answer.json).toMatchObject({ success: false, code: 'UNAVAILABLE' });
      expect(answer.status).toBe(503);
      for (const field of ['id', 'key', 'secret']) expect(answer.text).not.toContain(created[field]);
      expect(answer.headers.get('keyledger-as-of')).toBeNull();
    });

    it('and what is not written down goes on', async () => {
      for (const path of [keys, one()]) expect((await told('GET', path)).status).toBe(200);
    });
  });
});
