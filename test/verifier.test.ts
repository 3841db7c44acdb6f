import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createVerifier, type Verifier, type VerifierOptions } from '../src/sdk/verifier/index.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { spawnService } from './support/servers/child-service.js';
import { combinations } from './support/servers/combinations.js';
import { type Json, type Running, runService, tokenFor } from './support/servers/service.js';
import { TcpProxy } from './support/servers/tcp-proxy.js';

type Credential = { readonly id: string; readonly key: string; readonly secret: string };

const verifiers: Verifier[] = [];
const verifier = (options: VerifierOptions): Verifier => {
  const one = createVerifier(options);
  verifiers.push(one);
  return one;
};
afterEach(() => {
  for (const one of verifiers.splice(0)) one.close();
});

describe.each(combinations)('a verifier in another process, on $name', ({ start }) => {
  let parts: Awaited<ReturnType<typeof start>>;
  let service: Running;
  let repoId: string;
  let admin: string;
  beforeEach(async () => {
    parts = await start();
    service = await runService(parts.settings);
    repoId = randomUUID();
    admin = await service.token('admin', repoId);
  }, 60_000);
  afterEach(async () => {
    await service.stop();
    await parts.stop();
  }, 60_000);

  const create = async (more: Json = {}): Promise<Credential> => {
    const body = { name: 'search', aiType: 'OPENAI', ...more };
    const { json } = await service.ask('POST', `/repo/${repoId}/ai/apikey`, { token: admin, body });
    return json as Credential;
  };
  const change = (method: string, path: string, body?: Json) =>
    service.ask(method, `/repo/${repoId}/ai/apikey/${path}`, { token: admin, body });
  const open = async () => {
    const one = verifier({ baseUrl: service.url, token: await service.token('replica', repoId) });
    await one.ready();
    return one;
  };

  it('refuses a restriction that it does not know, instead of dropping it', async () => {
    const made = await create();
    const one = verifier({ baseUrl: service.url, token: await service.token('replica', repoId) });
    await one.ready();
    expect(one.verify(made.key, made.secret, { repoId: 'other' })).toMatchObject({ reason: 'WRONG_REPO' });
    for (const use of [{ repo: 'other' }, { repoid: 'other' }, { aitype: 'AWS' }])
      expect(() => one.verify(made.key, made.secret, use as never)).toThrow(TypeError);
    expect(() => verifier({ baseUrl: service.url, token: 'x', maxStalenes: 1 } as never)).toThrow(TypeError);
  });

  it('says what the service says: of what there was, and of every change', async () => {
    const before = await create({ name: 'before' });
    const one = await open();
    expect(one.verify(before.key, before.secret)).toEqual({
      valid: true,
      apiKey: { id: before.id, repoId, name: 'before', aiType: 'OPENAI', expiresAt: null },
    });
    const made = await create();
    await eventually(() => one.verify(made.key, made.secret).valid);
    const says = (secret = made.secret, use = {}) => {
      const result = one.verify(made.key, secret, use);
      return result.valid || result.reason;
    };
    expect(says(before.secret)).toBe('BAD_SECRET');
    expect(says('secret_x')).toBe('MALFORMED');
    expect(says(made.secret, { repoId: 'other' })).toBe('WRONG_REPO');
    expect(says(made.secret, { aiType: 'AWS' })).toBe('WRONG_AI_TYPE');
    const rotated = (await change('POST', `${made.id}/rotate`, { overlapSeconds: 600 })).json;
    await eventually(() => says(rotated['secret'] as string) === true);
    expect(says()).toBe(true);
    await change('POST', `${made.id}/suspend`);
    await eventually(() => says() === 'SUSPENDED');
    await change('POST', `${made.id}/resume`);
    await eventually(() => says() === true);
    const { headers } = await change('DELETE', made.id);
    await eventually(() => says() === 'DELETED');
    expect((one.position ?? '') >= (headers.get('keyledger-position') ?? '')).toBe(true);
    await eventually(() => one.staleness < 10);
  });

  it('knows nothing of repositories that its token may not follow', async () => {
    const made = await create();
    const elsewhere = await service.token('replica', 'elsewhere');
    const other = verifier({ baseUrl: service.url, token: elsewhere });
    await other.ready();
    expect(other.verify(made.key, made.secret)).toEqual({ valid: false, reason: 'UNKNOWN' });
  });
});

describe('a verifier', () => {
  let service: Running;
  beforeEach(async () => {
    service = await runService();
  });
  afterEach(() => service.stop());
  const create = async (repoId = 'shop') => {
    const body = { name: 'search', aiType: 'OPENAI' };
    const token = await service.token('admin', repoId);
    return (await service.ask('POST', `/repo/${repoId}/ai/apikey`, { token, body })).json as Credential;
  };

  it('refuses everything until it knows, and after it is closed', async () => {
    const made = await create();
    const one = verifier({ baseUrl: service.url, token: await service.token('replica') });
    expect(one.verify(made.key, made.secret)).toEqual({ valid: false, reason: 'STALE' });
    expect([one.staleness, one.position]).toEqual([Number.POSITIVE_INFINITY, undefined]);
    await one.ready();
    expect(one.verify(made.key, made.secret).valid).toBe(true);
    one.close();
    expect(one.verify(made.key, made.secret)).toEqual({ valid: false, reason: 'STALE' });
  });

  it.each<[string, unknown, unknown]>([
    ['without a key and a secret', undefined, undefined],
    ['without a secret', 'FB_AI_x', undefined],
    ['with a header that came twice', ['FB_AI_x', 'FB_AI_y'], 'secret_x'],
  ])('says MALFORMED of a request %s', async (_, key, secret) => {
    const one = verifier({ baseUrl: service.url, token: await service.token('replica') });
    await one.ready();
    const result = one.verify(key as string | undefined, secret as string | undefined);
    expect(result).toEqual({ valid: false, reason: 'MALFORMED' });
  });

  it('that was refused is ready when it is accepted', async () => {
    let role = 'viewer';
    const token = () => service.token(role);
    const one = verifier({ baseUrl: service.url, token });
    await expect(one.ready()).rejects.toMatchObject({ status: 403 });
    role = 'replica';
    await eventually(() =>
      one.ready().then(
        () => true,
        () => false,
      ),
    );
    expect(one.failure).toBeUndefined();
    await one.ready();
  });

  it('whose token has expired says so, once', async () => {
    const errors: Error[] = [];
    const one = verifier({
      baseUrl: service.url,
      token: await tokenFor(service.config, { shop: 'replica' }, 'gateway', 2),
      onError: (error) => void errors.push(error),
    });
    await one.ready();
    await eventually(() => one.failure !== undefined && errors.length > 0);
    expect(errors).toMatchObject([{ status: 401, message: expect.stringMatching(/: the token expired at 2/) }]);
    expect(one.failure).toBe(errors[0]);
  });

  it('that nobody answers says so', async () => {
    const { hostname, port } = new URL(service.url);
    const proxy = new TcpProxy({ host: hostname, port: Number(port) });
    const baseUrl = `http://127.0.0.1:${await proxy.start()}`;
    await proxy.stop();
    const errors: Error[] = [];
    const onError = (error: Error) => void errors.push(error);
    const one = verifier({ baseUrl, token: await service.token('replica'), onError });
    await eventually(() => errors.length > 0);
    expect(errors).toMatchObject([{ status: 0, code: 'NETWORK' }]);
    expect(one.failure).toBeUndefined();
  });

  it('includes network delay in staleness', async () => {
    const made = await create();
    const { hostname, port } = new URL(service.url);
    const proxy = new TcpProxy({ host: hostname, port: Number(port) });
    const baseUrl = `http://127.0.0.1:${await proxy.start()}`;
    const one = verifier({ baseUrl, token: await service.token('replica'), maxStaleness: 2 });
    await one.ready();
    expect(one.verify(made.key, made.secret).valid).toBe(true);
    proxy.delay(3000);
    const before = one.position;
    const later = await create();
    await eventually(() => one.position !== before);
    // Waits for the next mark: its content is fresh, but it arrives late.
    let last = one.staleness;
    await eventually(() => {
      const isFresher = one.staleness < last;
      last = one.staleness;
      return isFresher;
    });
    expect(one.staleness).toBeGreaterThanOrEqual(3);
    expect(one.verify(later.key, later.secret)).toEqual({ valid: false, reason: 'STALE' });
    one.close();
    await proxy.stop();
  });

  it.each(['admin', 'viewer', 'verifier', 'auditor'])('is refused to a token of the role %s', async (role) => {
    const one = verifier({ baseUrl: service.url, token: await service.token(role) });
    await expect(one.ready()).rejects.toMatchObject({ status: 403 });
    expect(one.failure).toMatchObject({ status: 403 });
  });

  it('of other repositories than before fetches everything anew', async () => {
    const [shop, bank] = [await create('shop'), await create('bank')];
    let grants: object = { shop: 'replica' };
    const ttl = new Set<string>();
    const one = verifier({
      baseUrl: service.url,
      token: async () => {
        const token = await tokenFor(service.config, grants, 'gateway', 2);
        ttl.add(token);
        return token;
      },
    });
    await one.ready();
    expect(one.verify(bank.key, bank.secret)).toEqual({ valid: false, reason: 'UNKNOWN' });
    grants = { bank: 'replica' };
    await eventually(() => one.verify(bank.key, bank.secret).valid);
    expect(one.verify(shop.key, shop.secret)).toEqual({ valid: false, reason: 'UNKNOWN' });
    expect(ttl.size).toBeGreaterThan(1);
  });
});

describe('a verifier whose service goes away', () => {
  it('works from what it knows, refuses when that is too old, and recovers with the service', async () => {
    const folder = temporaryFolder();
    let child = await spawnService(folder.path);
    const token = await child.token('admin');
    const body = { name: 'search', aiType: 'OPENAI' };
    const create = async () => (await child.ask('POST', '/repo/shop/ai/apikey', { token, body })).json as Credential;
    const [kept, deleted] = [await create(), await create()];
    const { port } = new URL(child.url);
    const options = { baseUrl: child.url, token: await child.token('replica') };
    const patient = verifier(options);
    const strict = verifier({ ...options, maxStaleness: 2 });
    await Promise.all([patient.ready(), strict.ready()]);
    await child.end('SIGKILL');
    await eventually(() => !strict.verify(kept.key, kept.secret).valid);
    expect(strict.verify(kept.key, kept.secret)).toEqual({ valid: false, reason: 'STALE' });
    expect(patient.verify(kept.key, kept.secret).valid).toBe(true);

    child = await spawnService(folder.path, { PORT: port });
    await child.ask('DELETE', `/repo/shop/ai/apikey/${deleted.id}`, { token });
    await eventually(() => strict.verify(kept.key, kept.secret).valid);
    for (const one of [patient, strict]) {
      await eventually(() => !one.verify(deleted.key, deleted.secret).valid);
      expect(one.verify(deleted.key, deleted.secret)).toEqual({ valid: false, reason: 'DELETED' });
    }
    await child.end('SIGKILL');
    folder.remove();
  });

  it('over another log forgets the keys of the one before', async () => {
    const [first, second] = [temporaryFolder(), temporaryFolder()];
    let child = await spawnService(first.path, { JWT_SECRET: 'x'.repeat(40) });
    const body = { name: 'search', aiType: 'OPENAI' };
    const create = async () => {
      const token = await child.token('admin');
      return (await child.ask('POST', '/repo/shop/ai/apikey', { token, body })).json as Credential;
    };
    const old = await create();
    const one = verifier({ baseUrl: child.url, token: await child.token('replica') });
    await one.ready();
    await child.end('SIGKILL');
    child = await spawnService(second.path, { JWT_SECRET: 'x'.repeat(40), PORT: new URL(child.url).port });
    const fresh = await create();
    await eventually(() => one.verify(fresh.key, fresh.secret).valid);
    expect(one.verify(old.key, old.secret)).toEqual({ valid: false, reason: 'UNKNOWN' });
    await child.end('SIGKILL');
    for (const folder of [first, second]) folder.remove();
  });
});
