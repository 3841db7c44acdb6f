import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import GithubSlugger from 'github-slugger';
import type { Code, Nodes } from 'mdast';
import { fromMarkdown } from 'mdast-util-from-markdown';
import { toString as textOf } from 'mdast-util-to-string';
import { visit } from 'unist-util-visit';
import { type CommandHelp, commandHelp } from '../scripts/reference/cli.js';
import { ERRORS } from '../src/domain/errors.js';

/** Every page of the repository: what it links to is there, and what it shows can be pasted. */

/** Everything but what is installed, built or written by a service. */
const folders = readdirSync('.', { withFileTypes: true }).filter(
  (entry) => entry.isDirectory() && !['node_modules', 'dist', 'data', '.git'].includes(entry.name),
);
const pages = [
  ...readdirSync('.'),
  ...folders.flatMap(({ name }) =>
    readdirSync(name, { recursive: true, encoding: 'utf8' }).map((file) => join(name, file)),
  ),
].filter((file) => file.endsWith('.md'));
const treeOf = new Map(pages.map((page) => [page, fromMarkdown(readFileSync(page, 'utf8'))]));

type Found<T> = readonly (readonly [where: string, what: T])[];

/** All of a kind, each with the page and line where it is. */
function every<T>(pick: (node: Nodes) => T | undefined): Found<T> {
  return [...treeOf].flatMap(([page, tree]) => {
    const found: [string, T][] = [];
    visit(tree, (node) => {
      const what = pick(node);
      if (what !== undefined) found.push([`${page}:${node.position?.start.line}`, what]);
    });
    return found;
  });
}

/** The anchors that GitHub gives the headings of a page. */
function anchorsOf(page: string): string[] {
  const slugger = new GithubSlugger();
  const anchors: string[] = [];
  visit(treeOf.get(page) ?? fromMarkdown(readFileSync(page, 'utf8')), 'heading', (heading) => {
    anchors.push(slugger.slug(textOf(heading)));
  });
  return anchors;
}

const blocks = (...languages: string[]): Found<Code> =>
  every((node) => (node.type === 'code' && languages.includes(node.lang ?? '') ? node : undefined));

it('there are pages', () => {
  expect(pages.length).toBeGreaterThan(20);
});

describe('links', () => {
  const links = every((node) =>
    node.type === 'link' || node.type === 'image' || node.type === 'definition' ? node.url : undefined,
  );
  const relative = links.filter(([, url]) => !/^(?:[a-z]+:|\/\/)/i.test(url));

  it('to other sites are https, or to the service on this machine', () => {
    const others = links.filter(([, url]) => /^[a-z]+:/i.test(url));
    expect(others.filter(([, url]) => !/^(?:https:|http:\/\/127\.0\.0\.1)/.test(url))).toEqual([]);
  });

  it('to files lead to a file, and with an anchor to a heading of it', () => {
    expect(relative.length).toBeGreaterThan(100);
    const broken = relative.filter(([where, url]) => {
      const page = where.slice(0, where.lastIndexOf(':'));
      const [path = '', anchor] = url.split('#');
      const target = path === '' ? page : join(dirname(page), decodeURIComponent(path));
      if (!existsSync(target)) return true;
      return anchor !== undefined && (!target.endsWith('.md') || !anchorsOf(target).includes(anchor));
    });
    expect(broken).toEqual([]);
  });

  it('of the tables of contents reach every page', () => {
    const reached = new Set(relative.map(([where, url]) => join(dirname(where), url.replace(/#.*/, ''))));
    const own = pages.filter((page) => page !== 'README.md');
    expect(own.filter((page) => !reached.has(page))).toEqual([]);
  });
});

describe('code blocks', () => {
  it('have a language', () => {
    expect(every((node) => (node.type === 'code' && !node.lang ? node.value : undefined))).toEqual([]);
  });

  it('of JSON parse', () => {
    const wrong = blocks('json').filter(([, { value }]) => !isJson(value));
    expect(wrong.map(([where]) => where)).toEqual([]);
  });

  it('of shell commands are bash', () => {
    const commands = blocks('sh');
    expect(commands.length).toBeGreaterThan(40);
    const wrong = commands.flatMap(([where, { value }]) => {
      const { stderr } = spawnSync('bash', ['-n'], { input: value, encoding: 'utf8' });
      return stderr === '' ? [] : [[where, stderr]];
    });
    expect(wrong).toEqual([]);
  });

  it('of TypeScript and JavaScript compile against the package', () => {
    // In the package's own folder its names lead to itself.
    const folder = resolve('dist/test-docs');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const examples = blocks('ts', 'js');
    expect(examples.length).toBeGreaterThan(3);
    for (const [where, { value }] of examples)
      writeFileSync(join(folder, `${where.replaceAll(/\W/g, '-')}.mts`), `${value}\nexport {};\n`);
    writeFileSync(join(folder, 'reader.d.ts'), READERS_OWN);
    const compilerOptions = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      module: 'nodenext',
      target: 'es2023',
      types: ['node'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*'] }));
    const tsc = resolve('node_modules/typescript/bin/tsc');
    const { stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    expect(stdout).toBe('');
    rmSync(folder, { recursive: true });
  }, 60_000);
});

/** What the examples leave to their reader. */
const READERS_OWN = `
  declare const key: string;
  declare const secret: string;
  declare function freshToken(): Promise<string>;
  declare function savedPosition(): Promise<string>;
  declare function savePosition(position: string): Promise<void>;
  declare function handle(event: unknown): Promise<void>;
`;

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('command lines', () => {
  let commands: Map<string, CommandHelp>;
  beforeAll(async () => {
    commands = new Map((await commandHelp()).map((help) => [help.command, help]));
  }, 60_000);

  /** Every command line of keyledger, in a block or as code in a sentence, without what calls it. */
  const lines: Found<string> = [
    ...blocks('sh').flatMap(([where, { value }]) =>
      linesIn(value.replaceAll('\\\n', ' ')).map((line) => [where, line] as const),
    ),
    ...every((node) => (node.type === 'inlineCode' ? node.value : undefined)).flatMap(([where, code]) =>
      linesIn(code).map((line) => [where, line] as const),
    ),
  ];

  it('name commands and options that there are', () => {
    expect(lines.length).toBeGreaterThan(30);
    const wrong = lines.filter(([, line]) => !isKnown(line));
    expect(wrong).toEqual([]);
  });

  function isKnown(line: string): boolean {
    const words = line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
    let path = 'keyledger';
    while (words[0] !== undefined && commands.has(`${path} ${words[0]}`)) path = `${path} ${words.shift()}`;
    const command = commands.get(path);
    const options = (command?.options ?? []).map(([flags]) => flags.split(/[ ,]/).find((flag) => /^--/.test(flag)));
    const given = words.filter((word) => word.startsWith('--')).map((word) => word.split('=')[0]);
    if (given.some((option) => option !== '--help' && !options.includes(option))) return false;
    // A group of commands is named as a whole, or by a command of it.
    return command !== undefined && (command.commands.length === 0 || words.every((word) => word.startsWith('-')));
  }

  function linesIn(text: string): string[] {
    const call =
      /(?:^|[\s(;&|])(?:npx |docker compose exec keyledger )?(?:keyledger|node dist\/src\/cli\.js)(?: ([^\n;|)&>]*))?(?=[\n;|)&>]|$)/g;
    return [...text.matchAll(call)].map(([, line = '']) => line.trim()).filter((line) => !/[{…]/.test(line));
  }
});

describe('names in capitals', () => {
  /** Variables of Node, of the tests and of other programs, and what the examples call theirs. */
  const OTHERS = [
    'EVENTSTORE_EMPTY_TEST_URL',
    'EVENTSTORE_TEST_URL',
    'KEYLEDGER_EVENTSTOREDB_COMMAND',
    'NODE_EXTRA_CA_CERTS',
    'NODE_OPTIONS',
    'REDIS_URL',
  ];

  it('are settings, error codes, or known to be of others', () => {
    const settings = [...readFileSync('src/settings.ts', 'utf8').matchAll(/^ {2}([A-Z_]+):/gm)].map(
      ([, name = '']) => name,
    );
    const known = new Set([...settings, ...Object.keys(ERRORS), ...OTHERS]);
    const named = every((node) => (node.type === 'inlineCode' ? node.value : undefined)).flatMap(([where, code]) =>
      [...code.matchAll(/(?<![\w-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w*])/g)].map(([name]) => [where, name] as const),
    );
    expect(named.length).toBeGreaterThan(50);
    expect(named.filter(([, name]) => !known.has(name) && !/^(?:HTTP|FB)_/.test(name))).toEqual([]);
  });

  it('in command lines are settings, or variables that are set there or before', () => {
    const settings = [...readFileSync('src/settings.ts', 'utf8').matchAll(/^ {2}([A-Z_]+):/gm)].map(
      ([, name = '']) => name,
    );
    const set = blocks('sh').flatMap(([where, { value }]) =>
      [...value.matchAll(/(?:^|\s)([A-Z]+_[A-Z_]+)=/g)].map(([, name = '']) => [where, name] as const),
    );
    expect(set.filter(([, name]) => !settings.includes(name) && !OTHERS.includes(name))).toEqual([]);
  });
});

it('no page names a file of the repository that is not there', () => {
  const there = folders.flatMap(({ name }) =>
    readdirSync(name, { recursive: true, encoding: 'utf8' }).map((file) => `/${name}/${file}`),
  );
  const named = every((node) => (node.type === 'inlineCode' ? node.value : undefined)).filter(
    ([, code]) =>
      /^(?:bench|docs|examples|scripts|src|test|torture)\/[\w./-]+$/.test(code) || /^[\w./-]+\.ts$/.test(code),
  );
  expect(named.length).toBeGreaterThan(30);
  expect(named.filter(([, path]) => !there.some((file) => file.endsWith(join('/', path))))).toEqual([]);
});
