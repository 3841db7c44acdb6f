import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { ROLES, type Role } from '../src/domain/authorization.js';
import { isStream } from './support/http/attack.js';
import { answersIn, exchange } from './support/http/raw-client.js';
import { bytesOf, type OpenApi, type Operation, operationsOf } from './support/http/requests-from-openapi.js';
import { type Json, type Running, runService } from './support/servers/service.js';

/** Roles by operation, stated independently of the code: an operation without a line here fails the test. */
const WITHOUT_TOKEN = ['live', 'ready', 'revokeLeakedApiKey', 'verifyForwardedRequest'];
const ROLES_OF: readonly (readonly [roles: readonly Role[], calls: readonly string[]])[] = [
  [
    ['viewer', 'admin', 'auditor'],
    ['getRepoAiApiKeys', 'getRepoAiApiKey'],
  ],
  [
    ['admin'],
    [
      'createRepoAiApiKey',
      'updateRepoAiApiKey',
      'deleteRepoAiApiKey',
      'rotateRepoAiApiKey',
      'suspendRepoAiApiKey',
      'resumeRepoAiApiKey',
      'registerRepoWebhook',
      'changeRepoWebhook',
      'deleteRepoWebhook',
      'rotateRepoWebhookSecret',
      'pauseRepoWebhook',
      'resumeRepoWebhook',
      'replayRepoWebhook',
      'pingRepoWebhook',
    ],
  ],
  [
    ['admin', 'auditor'],
    [
      'getRepoAiApiKeyHistory',
      'getRepoAiAudit',
      'getRepoWebhookHistory',
      'getSystemEvents',
      'markSystemEventsRead',
      'markSystemEventsUnread',
      'getRepoWebhooks',
      'getRepoWebhook',
      'getRepoWebhookDeliveries',
      'getEvents',
    ],
  ],
  [['verifier', 'replica'], ['verifyApiKey']],
  [['replica'], ['getReplica', 'reportLastUsed']],
];
const rolesOf = (call: string) => ROLES_OF.find(([, calls]) => calls.includes(call))?.[0];

let service: Running;
let operations: Operation[];
beforeAll(async () => {
  service = await runService({ RATE_LIMIT: '0' });
  operations = operationsOf((await service.ask('GET', '/openapi.json')).json as unknown as OpenApi);
});
afterAll(() => service.stop());

/** Status of a call with a minimal valid request. */
async function statusOf({ method, path }: Operation, token: string | undefined, repoId: string, id: string) {
  const target = path.replace('{repoId}', repoId).replace(/\{\w+\}/, id);
  const bodies = [
    ['/replay', '{"after":"start"}'],
    ['/systemevent/read', '{"id":1}'],
  ] as const;
  const body = bodies.find(([end]) => path.endsWith(end))?.[1];
  const headers = body ? ([['Content-Type', 'application/json']] as const) : [];
  const request = { method, target, headers, body: body === undefined ? undefined : Buffer.from(body) };
  return answersIn(await exchange(service.url, bytesOf(request, token), isStream))[0]?.status;
}

it('every call but those for everybody is refused without a token', async () => {
  for (const operation of operations) {
    const status = await statusOf(operation, undefined, 'shop', 'none');
    // The forwarded request carries an API key instead of a token.
    const isOpen = WITHOUT_TOKEN.includes(operation.id) && operation.id !== 'verifyForwardedRequest';
    expect([operation.id, status === 401]).toEqual([operation.id, !isOpen]);
  }
});

it('every call is for the roles that it is meant for, and for no other', async () => {
  const calls = operations.filter(({ id }) => !WITHOUT_TOKEN.includes(id));
  for (const role of [...ROLES, 'owner']) {
    const token = await service.token(role, 'shop');
    for (const operation of calls) {
      const status = await statusOf(operation, token, 'shop', 'none');
      const may = (rolesOf(operation.id) as readonly string[] | undefined)?.includes(role);
      expect([role, operation.id, status !== 403]).toEqual([role, operation.id, may]);
    }
  }
});

it('no call reaches what is in the repository of another, by its address or by an id', async () => {
  const theirs = await service.token('admin', 'theirs', 'their admin');
  const make = async (path: string, body: object): Promise<string> =>
    String((await service.ask('POST', path, { token: theirs, body })).json['id']);
  const key = await make('/repo/theirs/ai/apikey', { name: 'search', aiType: 'AWS' });
  const webhook = await make('/repo/theirs/webhook', { url: 'https://hooks.invalid/hook' });
  const whatTheySee = async () => {
    const keys = (await service.ask('GET', '/repo/theirs/ai/apikey', { token: theirs })).json['apiKeys'];
    const hooks = (await service.ask('GET', '/repo/theirs/webhook', { token: theirs })).json['webhooks'];
    return [keys, hooks] as Json[];
  };
  const before = await whatTheySee();
  const mine = await service.token('admin', 'mine');
  for (const operation of operations.filter(({ path }) => path.includes('{repoId}'))) {
    const id = operation.path.includes('{webhookId}') ? webhook : key;
    expect([operation.id, await statusOf(operation, mine, 'theirs', id)]).toEqual([operation.id, 403]);
    if (!/\{(apikeyId|webhookId)\}/.test(operation.path)) continue;
    expect([operation.id, await statusOf(operation, mine, 'mine', id)]).toEqual([operation.id, 404]);
  }
  expect(await whatTheySee()).toEqual(before);
});

it('no field of a body sets what is not for the caller to set: each is refused by its name', async () => {
  const token = await service.token('admin', 'fields');
  const other = '0b7f3c1e-6f0a-4c57-9d3a-2f1f8f3d9a10';
  const more = {
    id: other,
    apiKeyId: other,
    repoId: 'theirs',
    key: 'FB_AI_mine',
    secret: 'secret_mine',
    secretHash: 'mine',
    status: 'deleted',
    createdAt: '2000-01-01T00:00:00.000Z',
    deletedAt: '2000-01-01T00:00:00.000Z',
    actor: { issuer: 'x', subject: 'x' },
  };
  const keys = '/repo/fields/ai/apikey';
  const listed = async () => (await service.ask('GET', keys, { token })).json['apiKeys'] as Json[];
  for (const [field, value] of Object.entries(more)) {
    const body = { name: 'search', aiType: 'AWS', [field]: value };
    const { status, json } = await service.ask('POST', keys, { token, body });
    expect([status, json['message']]).toEqual([400, expect.stringContaining(`${field}: is not a member`)]);
  }
  expect(await listed()).toEqual([]);
  await service.ask('POST', keys, { token, body: { name: 'search', aiType: 'AWS' } });
  const [made = {}] = await listed();
  for (const [field, value] of Object.entries({ ...more, aiType: 'OTHER' })) {
    const body = { name: 'renamed', [field]: value };
    expect((await service.ask('PUT', `${keys}/${made['id']}`, { token, body })).status).toBe(400);
  }
  expect(await listed()).toEqual([made]);
});
