import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

/** The package as another project installs it: packed from a clean copy of this project. */

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const name = `keyledger-${version}.tgz`;
const home = temporaryFolder();
const [source, project, empty] = ['source', 'project', 'empty'].map((folder) => join(home.path, folder)) as [
  string,
  string,
  string,
];
const cache = join(home.path, 'npm');
const env = {
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  DATA_DIR: join(home.path, 'data'),
  PORT: '0',
  LOG_LEVEL: 'warn',
  npm_config_cache: cache,
  npm_config_prefer_offline: 'true',
  npm_config_audit: 'false',
  npm_config_fund: 'false',
  npm_config_update_notifier: 'false',
};
let service: ChildProcess | undefined;

/**
 * Runs a command to its end.
 * @returns what it printed
 * @throws Error the command failed
 */
function run(folder: string, command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

beforeAll(() => {
  for (const folder of [source, project, empty, cache]) mkdirSync(folder);
  // Reuses npm's downloads; what this test installs stays in its own folder.
  const downloads = spawnSync('npm', ['config', 'get', 'cache'], { encoding: 'utf8' }).stdout.trim();
  mkdirSync(join(downloads, '_cacache'), { recursive: true });
  symlinkSync(join(downloads, '_cacache'), join(cache, '_cacache'));
  const tracked = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.src.json', '.npmrc'];
  const packed = ['src', 'scripts', 'docs', 'examples', 'README.md', 'LICENSE', 'SECURITY.md', '.gitignore'];
  for (const part of [...tracked, ...packed]) cpSync(part, join(source, part), { recursive: true });
  symlinkSync(resolve('node_modules'), join(source, 'node_modules'));
  expect(run(source, 'npm', 'pack', '--silent').trim()).toBe(name);
  for (const folder of [project, empty]) cpSync(join(source, name), join(folder, name));
  run(project, 'npm', 'install', `./${name}`);
}, 300_000);
afterAll(async () => {
  if (service?.exitCode === null) {
    const ended = once(service, 'exit');
    process.kill(-(service.pid as number), 'SIGTERM');
    await ended;
  }
  home.remove();
});

it('the package runs the service in an empty folder, and its client uses it', async () => {
  service = spawn('npx', ['--yes', `./${name}`, 'serve'], { cwd: empty, env, detached: true });
  let printed = '';
  for (const stream of [service.stdout, service.stderr]) {
    stream?.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
  }
  await eventually(() => /A token/.test(printed) || service?.exitCode !== null);
  const [, url] = /listens on\s+(\S+)/.exec(printed) ?? [];
  const [, command = ''] = /A token\s+(\S.*)/.exec(printed) ?? [];
  if (!url) throw new Error(printed);
  expect(command).not.toMatch(/^npx /);
  const token = run(empty, 'sh', '-c', command).trim();

  writeFileSync(
    join(project, 'use.mjs'),
    `import { createClient, KeyledgerClientError } from 'keyledger/client';
     import { createVerifier } from 'keyledger/verifier';
     import { verifyWebhook } from 'keyledger/webhook';
     const client = createClient({ baseUrl: process.argv[2], token: process.argv[3] });
     const { id } = await client.createRepoAiApiKey('demo', { name: 'search', aiType: 'AWS' });
     const { apiKeys } = await client.getRepoAiApiKeys('demo');
     console.log(JSON.stringify([id === apiKeys[0].id, typeof createVerifier, typeof verifyWebhook]));`,
  );
  expect(JSON.parse(run(project, process.execPath, 'use.mjs', url, token))).toEqual([true, 'function', 'function']);
  const { info } = (await (await fetch(`${url}/openapi.json`)).json()) as { info: { version: string } };
  expect(info.version).toBe(version);
}, 300_000);

it('the package says its version', () => {
  expect(run(project, 'npx', 'keyledger', '--version')).toBe(`${version}\n`);
});

it('the package has types', () => {
  writeFileSync(
    join(project, 'use.ts'),
    `import { type ApiKey, type Client, createClient } from 'keyledger/client';
     import { createVerifier, type VerificationOutcome } from 'keyledger/verifier';
     import { verifyWebhook, type WebhookBody } from 'keyledger/webhook';
     export const client: Client = createClient({ baseUrl: 'http://localhost', token: async () => 'x' });
     export const names = async (): Promise<string[]> =>
       (await client.getRepoAiApiKeys('demo')).apiKeys.map(({ name }: ApiKey) => name);
     export const result: VerificationOutcome = createVerifier({ baseUrl: 'http://localhost', token: 'x' }).verify('a', 'b');
     export const event: WebhookBody = verifyWebhook({}, '', 'x');
     // @ts-expect-error An API key is for a provider that there is.
     client.createRepoAiApiKey('demo', { name: 'x', aiType: 'NONE' });`,
  );
  const tsc = resolve('node_modules/typescript/bin/tsc');
  const types = ['--types', 'node', '--typeRoots', resolve('node_modules/@types')];
  const options = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2022', ...types];
  expect(run(project, process.execPath, tsc, ...options, 'use.ts')).toBe('');
});
