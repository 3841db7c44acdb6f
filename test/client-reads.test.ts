import { describe, expect, it } from '@jest/globals';
import { type ApiKey, createClient } from '../src/sdk/client/index.js';
import { client, proxy, requests, runClientAndService } from './support/servers/client-and-service.js';
import { json } from './support/servers/unreliable-proxy.js';

runClientAndService();

const credential = { key: 'FB_AI_x', secret: 'secret_y' };
const apiKey: ApiKey = {
  id: 'k',
  name: 'search',
  repoId: 'shop',
  key: 'FB_AI_x',
  aiType: 'OPENAI',
  createdAt: '2026-01-01T00:00:00.000Z',
  deletedAt: null,
  expiresAt: '2027-01-01T00:00:00.000Z',
  lastUsedAt: '2026-06-01T12:00:00.000Z',
  status: 'suspended',
};

describe('a list', () => {
  const listPath = '/repo/shop/ai/apikey';

  it('is asked for with what is chosen, and nothing else', async () => {
    proxy.mishaps = [json(200, { success: true, apiKeys: [] }), json(200, { success: true, apiKeys: [] })];
    await client().getRepoAiApiKeys('shop', {
      include: 'deleted',
      status: 'expired',
      aiType: 'AWS',
      limit: 1000,
      cursor: 'a+b/c= &é',
      minPosition: 'log:7',
    });
    await client().getRepoAiApiKeys('shop', { status: undefined, limit: undefined });
    const [first, second] = proxy.seen.map(({ url }) => new URL(url, 'http://localhost'));
    expect(first?.pathname).toBe(listPath);
    expect([...(first?.searchParams ?? [])]).toEqual([
      ['include', 'deleted'],
      ['status', 'expired'],
      ['aiType', 'AWS'],
      ['limit', '1000'],
      ['cursor', 'a+b/c= &é'],
    ]);
    expect(second?.href).toBe(`http://localhost${listPath}`);
    expect(proxy.seen[0]?.headers['keyledger-min-position']).toBe('log:7');
  });

  it('can be asked for as of a time or a position, and so can one key', async () => {
    const was = { ...apiKey, position: 'log:3', eventId: 'e' };
    const listed = json(200, { success: true, apiKeys: [was] });
    proxy.mishaps = [listed, listed, json(200, { success: true, apiKey: was })];
    await client().getRepoAiApiKeys('shop', { asOf: new Date('2026-01-31T12:00:00Z') });
    const list = await client().getRepoAiApiKeys('shop', { asOf: '2026-01-31T12:00:00+02:00' });
    const one = await client().getRepoAiApiKey('shop', 'k', { asOf: 'log:7' });
    const cited: (string | undefined)[] = [list.apiKeys[0]?.position, one.apiKey.eventId];
    expect(cited).toEqual(['log:3', 'e']);
    expect(proxy.seen.map(({ url }) => url)).toEqual([
      `${listPath}?asOf=2026-01-31T12%3A00%3A00.000Z`,
      `${listPath}?asOf=2026-01-31T12%3A00%3A00%2B02%3A00`,
      `${listPath}/k?asOf=log%3A7`,
    ]);
    const wrong = client().getRepoAiApiKeys('shop', { asOf: new Date(Number.NaN) });
    await expect(wrong).rejects.toBeInstanceOf(RangeError);
    expect(proxy.seen).toHaveLength(3);
  });

  it('is read page by page', async () => {
    const other = { ...apiKey, id: 'l', status: 'expired' };
    proxy.mishaps = [
      json(200, { success: true, apiKeys: [apiKey], nextCursor: 'next' }),
      json(200, { success: true, apiKeys: [other], nextCursor: null }),
    ];
    const found: ApiKey[] = [];
    let cursor: string | null | undefined = null;
    do {
      const page = await client().getRepoAiApiKeys('shop', { limit: 1, cursor });
      found.push(...page.apiKeys);
      cursor = page.nextCursor;
    } while (cursor);
    expect(found).toEqual([apiKey, other]);
    expect(proxy.seen.map(({ url }) => url)).toEqual([`${listPath}?limit=1`, `${listPath}?limit=1&cursor=next`]);
  });

  it('of one: a deleted key, too, no earlier than the position that is asked for', async () => {
    proxy.mishaps = [json(200, { success: true, apiKey })];
    const found = await client().getRepoAiApiKey('shop', 'k', { include: 'deleted', minPosition: 'log:7' });
    expect(found).toEqual({ success: true, apiKey });
    expect(requests()).toEqual([[`GET ${listPath}/k?include=deleted`, undefined]]);
    expect(proxy.seen[0]?.headers['keyledger-min-position']).toBe('log:7');
  });
});

describe('a verification', () => {
  const { id, repoId, name, aiType, expiresAt } = apiKey;
  const valid = {
    success: true,
    valid: true,
    apiKey: { id, repoId, name, aiType, expiresAt },
    position: 'log:3',
  };

  it('returns the API key of a valid credential, and the position in the log', async () => {
    proxy.mishaps = [json(200, valid, { 'keyledger-staleness': '0.5', 'keyledger-position': 'log:4' })];
    const result = await client().verifyApiKey(credential, { minPosition: 'log:2' });
    expect(result).toEqual({ ...valid, staleness: 0.5 });
    // @ts-expect-error: the fields of a verification result depend on `valid`
    expect(result.reason).toBeUndefined();
    const known: [string, string] | undefined = result.valid ? [result.apiKey.name, result.position] : undefined;
    expect(known).toEqual(['search', 'log:3']);
    expect(requests()).toEqual([['POST /verify', credential]]);
    expect(proxy.seen[0]?.headers['keyledger-min-position']).toBe('log:2');
  });

  it('returns the reason why a credential is invalid', async () => {
    proxy.mishaps = [json(200, { success: true, valid: false, reason: 'EXPIRED' })];
    const result = await client().verifyApiKey(credential);
    expect(result).toEqual({ success: true, valid: false, reason: 'EXPIRED', staleness: null });
    const reason: 'EXPIRED' | undefined = !result.valid && result.reason === 'EXPIRED' ? result.reason : undefined;
    expect(reason).toBe('EXPIRED');
  });

  it.each([
    ['0.0', 0],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['', null],
    ['unknown', null],
  ])('reads the staleness "%s" as %s', async (header, staleness) => {
    proxy.mishaps = [json(200, valid, { 'keyledger-staleness': header })];
    expect(await client().verifyApiKey(credential)).toMatchObject({ staleness });
  });

  it('sends nothing of an object but what it needs', async () => {
    proxy.mishaps = [json(200, valid), json(200, { success: true, message: 'Done' })];
    const made = { ...credential, success: true as const, id: 'x', position: 'y' };
    await client().verifyApiKey(made);
    await client().revokeLeakedApiKey({ ...made, password: 'mine' } as typeof made);
    expect(requests().map(([, body]) => body)).toEqual([credential, credential]);
  });

  it('refuses a misspelt member before it sends anything, instead of dropping it', async () => {
    const one = client();
    const calls = [
      () => one.verifyApiKey({ ...credential, repo: 'shop' } as typeof credential),
      () => one.createRepoAiApiKey('shop', { name: 'x', aiType: 'AWS', expires_at: null } as never),
      () => one.createRepoAiApiKey('shop', { name: 'x', aiType: 'AWS' }, { idempotency_key: 'a' } as never),
      () => one.updateRepoAiApiKey('shop', 'id', { expires: null } as never),
      () => one.rotateRepoAiApiKey('shop', 'id', { overlap: 5 } as never),
      () => one.suspendRepoAiApiKey('shop', 'id', { because: 'x' } as never),
      () => one.getRepoAiApiKeys('shop', { as_of: '2026-01-01T00:00:00Z' } as never),
      () => one.getRepoAiAudit('shop', { type: 'ApiKeyCreated' } as never),
      () => one.events({ repoId: 'shop' } as never).next(),
      () => one.deleteRepoAiApiKey('shop', 'id', { dryRun: true } as never),
      async () => createClient({ baseUrl: 'http://127.0.0.1', token: 'x', timeout: 5 } as never),
    ];
    for (const call of calls) await expect(call()).rejects.toThrow(TypeError);
    expect(requests()).toEqual([]);
  });
});
