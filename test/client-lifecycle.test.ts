import { describe, expect, it } from '@jest/globals';
import { createClient } from '../src/sdk/client/index.js';
import { client, errorOf, key, repoId, runClientAndService, service } from './support/servers/client-and-service.js';

runClientAndService();

describe('the whole life of a key, by the client and the real service', () => {
  const gateway = async () =>
    createClient({ baseUrl: service.url, token: await service.token('verifier', repoId, 'gateway') });

  it('is created, verified, rotated, suspended, resumed, expired and deleted', async () => {
    const keys = client();
    const verify = await gateway();
    const made = await keys.createRepoAiApiKey(repoId, {
      ...key,
      expiresAt: new Date(Date.now() + 3_600_000),
    });
    expect(await verify.verifyApiKey(made, { minPosition: made.position ?? '' })).toMatchObject({
      valid: true,
      apiKey: {
        id: made.id,
        repoId,
        name: 'search',
        aiType: 'OPENAI',
        expiresAt: expect.stringMatching(/Z$/),
      },
      position: expect.stringMatching(/:/),
      staleness: expect.any(Number),
    });

    const rotated = await keys.rotateRepoAiApiKey(repoId, made.id, {}, { idempotencyKey: 'roll' });
    const again = await keys.rotateRepoAiApiKey(repoId, made.id, {}, { idempotencyKey: 'roll' });
    expect(again).toEqual(rotated);
    expect(await verify.verifyApiKey(made)).toMatchObject({ valid: false, reason: 'BAD_SECRET' });
    expect(await verify.verifyApiKey({ ...rotated, aiType: 'AWS' })).toMatchObject({
      reason: 'WRONG_AI_TYPE',
    });

    await keys.suspendRepoAiApiKey(repoId, made.id, { reason: 'odd traffic' });
    expect(await verify.verifyApiKey(rotated)).toMatchObject({ valid: false, reason: 'SUSPENDED' });
    expect((await keys.getRepoAiApiKey(repoId, made.id)).apiKey).toMatchObject({ status: 'suspended' });
    await keys.resumeRepoAiApiKey(repoId, made.id);
    await keys.updateRepoAiApiKey(repoId, made.id, { expiresAt: null });
    expect(await verify.verifyApiKey(rotated)).toMatchObject({ valid: true, apiKey: { expiresAt: null } });
    expect((await keys.getRepoAiApiKey(repoId, made.id)).apiKey.lastUsedAt).toMatch(/:00\.000Z$/);

    await keys.deleteRepoAiApiKey(repoId, made.id);
    expect(await verify.verifyApiKey(rotated)).toMatchObject({ valid: false, reason: 'DELETED' });
    expect(await errorOf(keys.getRepoAiApiKey(repoId, made.id))).toMatchObject({ code: 'KEY_NOT_FOUND' });
    expect((await keys.getRepoAiApiKey(repoId, made.id, { include: 'deleted' })).apiKey.deletedAt).toMatch(/Z$/);
  });

  it('has a history for auditors, of the key and of its repository', async () => {
    const made = await client().createRepoAiApiKey(repoId, key);
    await client().deleteRepoAiApiKey(repoId, made.id);
    const auditor = createClient({ baseUrl: service.url, token: await service.token('auditor', repoId) });
    const { events } = await auditor.getRepoAiApiKeyHistory(repoId, made.id);
    expect(events.map(({ type }) => type)).toEqual(['ApiKeyCreated', 'ApiKeyDeleted']);
    const first = await auditor.getRepoAiAudit(repoId, {
      from: new Date(0),
      types: ['ApiKeyCreated', 'ApiKeyDeleted'],
      actor: 'ada',
      apikeyId: made.id,
      limit: 1,
    });
    expect(first).toEqual({ success: true, events: [events[1]], nextCursor: events[1]?.position });
    const rest = await auditor.getRepoAiAudit(repoId, { apikeyId: made.id, cursor: first.nextCursor });
    expect(rest.events).toEqual([events[0]]);
    const viewer = createClient({ baseUrl: service.url, token: await service.token('viewer', repoId) });
    expect(await errorOf(viewer.getRepoAiAudit(repoId))).toMatchObject({ code: 'FORBIDDEN' });
  });

  it('can be looked at as it was, by an auditor', async () => {
    const made = await client().createRepoAiApiKey(repoId, key);
    const { position: gone } = await client().deleteRepoAiApiKey(repoId, made.id);
    const asOf = made.position ?? '';
    const auditor = createClient({ baseUrl: service.url, token: await service.token('auditor', repoId) });
    const was = { id: made.id, status: 'active', position: asOf };
    expect((await auditor.getRepoAiApiKey(repoId, made.id, { asOf })).apiKey).toMatchObject(was);
    expect((await auditor.getRepoAiApiKeys(repoId, { asOf })).apiKeys).toMatchObject([was]);
    const now = await auditor.getRepoAiApiKeys(repoId, { asOf: gone ?? '', include: 'deleted' });
    expect(now.apiKeys).toMatchObject([{ status: 'deleted', position: gone }]);
    expect((await auditor.getRepoAiApiKeys(repoId, { asOf: new Date(0) })).apiKeys).toEqual([]);
    expect(await errorOf(client().getRepoAiApiKeys(repoId, { asOf }))).toMatchObject({ code: 'FORBIDDEN' });
  });

  it('ends when its secret has leaked, at the request of anyone who holds it', async () => {
    const made = await client().createRepoAiApiKey(repoId, key);
    const finder = createClient({ baseUrl: service.url, token: 'of-nobody' });
    expect(await finder.revokeLeakedApiKey(made)).toMatchObject({ success: true });
    expect((await client().getRepoAiApiKeys(repoId, { status: 'deleted' })).apiKeys).toMatchObject([{ id: made.id }]);
  });

  it('is listed page by page', async () => {
    const made: string[] = [];
    for (let n = 0; n < 5; n++) made.push((await client().createRepoAiApiKey(repoId, key)).id);
    const found: string[] = [];
    let cursor: string | null | undefined;
    do {
      const page = await client().getRepoAiApiKeys(repoId, { limit: 2, cursor });
      found.push(...page.apiKeys.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor);
    expect(found).toEqual(made.reverse());
  });
});
