import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';

/** A newly installed project. */
const home = temporaryFolder();
const project = join(home.path, 'project');
const data = join(home.path, 'data');
const env = { PATH: process.env['PATH'], HOME: home.path, PORT: '0', DATA_DIR: data, LOG_LEVEL: 'warn' };
const started: ChildProcess[] = [];

beforeAll(() => {
  mkdirSync(project);
  for (const name of ['package.json', 'tsconfig.json', 'tsconfig.src.json', 'src', 'scripts'])
    cpSync(name, join(project, name), { recursive: true });
  symlinkSync(resolve('node_modules'), join(project, 'node_modules'));
});
afterAll(async () => {
  await Promise.all(
    started.map(async (child) => {
      const ended = once(child, 'exit');
      // Ends npm and the service that it started.
      if (child.exitCode === null) process.kill(-(child.pid as number), 'SIGTERM');
      else return;
      await ended;
    }),
  );
  home.remove();
});

/**
 * Runs `npm start` until the service listens.
 * @returns its URL
 */
async function npmStart(): Promise<string> {
  const child = spawn('npm', ['start'], { cwd: project, env, detached: true });
  started.push(child);
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
  }
  await eventually(() => /listens on/.test(printed) || child.exitCode !== null);
  const url = /listens on\s+(\S+)/.exec(printed)?.[1];
  if (!url) throw new Error(printed);
  return url;
}

/** Modification time of each file (epoch milliseconds). */
const written = (folder: string): Map<string, number> =>
  new Map(
    readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => [name, statSync(join(project, folder, name))] as const)
      .flatMap(([name, stat]) => (stat.isFile() ? [[name, stat.mtimeMs] as const] : [])),
  );
const changed = (before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>) =>
  [...new Set([...before.keys(), ...after.keys()])].filter((name) => before.get(name) !== after.get(name));

it('npm start compiles what the service needs, once, and takes nothing away from what runs', async () => {
  const first = await npmStart();
  const compiled = written('dist');
  expect([...compiled.keys()].filter((name) => !name.startsWith('src/'))).toEqual([]);

  const second = await npmStart();
  expect(changed(compiled, written('dist'))).toEqual([]);

  appendFileSync(join(project, 'src/config.ts'), '\nvoid 1;\n');
  const third = await npmStart();
  const ofConfig = /^src\/(config\.(js|js\.map|d\.ts)|\.tsbuildinfo)$/;
  expect(changed(compiled, written('dist')).filter((name) => !ofConfig.test(name))).toEqual([]);
  expect(changed(compiled, written('dist'))).toContain('src/config.js');

  for (const url of [first, second, third]) expect((await fetch(`${url}/health/live`)).status).toBe(200);
  const token = spawnSync(join(project, 'dist/src/cli.js'), ['token', '--repo', 'a', '--role', 'admin'], {
    env,
  });
  expect([token.status, token.stderr.toString()]).toEqual([0, '']);
}, 120_000);

it('npm run build removes what deleted tests have left, and nothing that the service runs from', () => {
  mkdirSync(join(project, 'test'));
  for (const name of ['kept', 'gone']) writeFileSync(join(project, `test/${name}.test.ts`), 'export {};\n');
  const build = (...args: string[]) => spawnSync('npm', ['run', 'build', ...args], { cwd: project, env });
  const isThere = (...names: string[]) => names.map((name) => existsSync(join(project, 'dist', name)));
  expect(build().status).toBe(0);
  expect(isThere('test/kept.test.js', 'test/gone.test.js')).toEqual([true, true]);
  spawnSync('rm', [join(project, 'test/gone.test.ts')]);
  writeFileSync(join(project, 'dist/src/of-another-release.js'), '');
  expect(build().status).toBe(0);
  const outputs = ['test/kept.test.js', 'test/gone.test.js', 'test/gone.test.d.ts', 'src/of-another-release.js'];
  expect(isThere(...outputs)).toEqual([true, false, false, true]);
}, 120_000);
