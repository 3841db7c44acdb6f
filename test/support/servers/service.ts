import { type Config, loadConfig } from '../../../src/config.js';
import type { Role } from '../../../src/domain/authorization.js';
import { LogOutput } from '../../../src/log-output.js';
import { type Service, startService } from '../../../src/main.js';
import { mintToken } from '../../../src/security/tokens.js';
import { eventually } from '../assertions/eventually.js';
import { temporaryFolder } from '../fixtures/temp-folder.js';

export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json;
};
/** JSON object whose shape the test states. */
export type Json = { readonly [field: string]: unknown };
export type Ask = { token?: string; body?: unknown; headers?: Record<string, string> };

export type Running = {
  readonly url: string;
  readonly metricsUrl: string | undefined;
  readonly config: Config;
  readonly folder: string;
  token(role: Role | string, repoId?: string, subject?: string): Promise<string>;
  ask(method: string, path: string, request?: Ask): Promise<Answer>;
  stop(): Promise<void>;
};

const output = new LogOutput(1);

/**
 * Starts the whole service in this process, on a free port, over a new log.
 * @param readyWith `no lists`: do not wait for the read model, which may be unavailable
 */
export async function runService(
  settings: NodeJS.ProcessEnv = {},
  readyWith: 'lists' | 'no lists' = 'lists',
): Promise<Running> {
  const folder = temporaryFolder();
  const config = loadConfig({ DATA_DIR: folder.path, PORT: '0', LOG_LEVEL: 'silent', ...settings });
  const service: Service = await startService(config, output, () => undefined);
  const anyone = await tokenFor(config, { '*': 'viewer' }, 'anyone');
  const isReady = async () =>
    (await fetch(`${service.url}/health/ready`)).ok &&
    (readyWith === 'no lists' ||
      (await ask(`${service.url}/repo/any/ai/apikey`, 'GET', { token: anyone })).status === 200);
  await eventually(isReady);
  return {
    url: service.url,
    metricsUrl: service.metricsUrl,
    config,
    folder: folder.path,
    token: (role, repoId = 'shop', subject = 'ada') => tokenFor(config, { [repoId]: role }, subject),
    ask: (method, path, request) => ask(service.url + path, method, request),
    stop: async () => {
      await service.stop();
      folder.remove();
    },
  };
}

export function tokenFor(
  { tokens, JWT_REPOS_CLAIM }: Config,
  grants: object,
  subject: string,
  ttlSeconds = 3600,
): Promise<string> {
  const { key } = tokens;
  if (key instanceof URL) throw new Error('This service does not mint tokens');
  return mintToken({ ...tokens, key }, { subject, grants, claim: JWT_REPOS_CLAIM, ttlSeconds }, Date.now());
}

/** Sends a request; a body that is not a string is sent as JSON. */
export async function ask(url: string, method: string, { token, body, headers = {} }: Ask = {}): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') && text !== '';
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson ? (JSON.parse(text) as Json) : {},
  };
}
