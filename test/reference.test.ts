import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { ConfigError, loadSettings } from '../src/settings.js';

it('the generated parts of the reference are what the built service says of itself', () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['dist/scripts/make-reference.js', '--check'], {
    encoding: 'utf8',
  });
  expect({ stdout, stderr, status }).toEqual({ stdout: '', stderr: '', status: 0 });
}, 60_000);

/** Every setting of the source, with the values of its enumeration if it is one. */
const settings = new Map(
  [...readFileSync('src/settings.ts', 'utf8').matchAll(/^ {2}([A-Z][A-Z_]+): ([\s\S]*?)(?=^ {2}\S|^\}\))/gm)].map(
    ([, name = '', schema = '']) => [
      name,
      [...(/\.enum\(\[([^\]]*)\]/.exec(schema)?.[1] ?? '').matchAll(/'(\w+)'/g)].map(([, value]) => value),
    ],
  ),
);

type Documented = Readonly<Record<'values' | 'default' | 'example', string>>;
/** What docs/reference/configuration.md says of each setting. */
const documented = new Map(
  readFileSync('docs/reference/configuration.md', 'utf8')
    .split(/^### /m)
    .slice(1)
    .map((section): [string, Documented] => {
      const line = (name: string) => new RegExp(`^- ${name}: ((?:.|\n {2})*)$`, 'm').exec(section)?.[1] ?? '';
      return [
        section.split('\n')[0] ?? '',
        { values: line('Values'), default: line('Default'), example: line('Example') },
      ];
    }),
);
const codeIn = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);

/** What a setting comes to; undefined if the service refuses it. */
function accepted(name: string, value: string): unknown {
  // A prefix is for EventStoreDB only.
  const around = name === 'EVENT_STORE_PREFIX' ? { EVENT_STORE_URL: 'esdb://events:2113' } : {};
  try {
    return loadSettings({ ...around, [name]: value })[name as 'PORT'];
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return undefined;
  }
}

describe('the page about configuration', () => {
  it('has a section for every setting and no other', () => {
    expect([...documented.keys()].sort()).toEqual([...settings.keys()].sort());
    expect(settings.size).toBeGreaterThan(20);
  });

  it.each([...documented])('says of %s only what the service accepts', (name, { values, example }) => {
    expect(codeIn(example)).toEqual([expect.stringMatching(`^${name}=.`)]);
    expect([example, accepted(name, codeIn(example)[0]?.slice(name.length + 1) ?? '')]).not.toEqual([
      example,
      undefined,
    ]);
    for (const value of codeIn(values).filter((code) => /^\w+$/.test(code)))
      expect([value, accepted(name, value)]).not.toEqual([value, undefined]);
  });

  it.each([...documented])('names every value of %s', (name, { values }) => {
    expect(codeIn(values)).toEqual(expect.arrayContaining(settings.get(name) ?? []));
    const [, low, high] = /^`(\d+)` to `(\d+)`/.exec(values) ?? [];
    if (low === undefined) return;
    for (const beyond of [Number(low) - 1, Number(high) + 1])
      expect([beyond, accepted(name, String(beyond))]).toEqual([beyond, undefined]);
  });

  it.each([...documented])('says the default of %s', (name, { default: said }) => {
    const value = loadSettings({})[name as 'PORT'] as unknown;
    if (name === 'EVENT_STORE_URL') expect(value).toBe('sqlite:data/keyledger.db');
    else if (said.startsWith('unset')) expect([undefined, []]).toContainEqual(value);
    // The issuer and the audience have their defaults only where the service signs tokens itself.
    else if (!said.includes('required')) expect(String(value)).toBe(codeIn(said)[0]);
  });
});

it('the page about metrics names every metric of the source', () => {
  const source = readFileSync('src/http/metrics.ts', 'utf8');
  const names = [...source.matchAll(/'(keyledger_\w+)'/g)].map(([, name = '']) => name);
  const page = readFileSync('docs/reference/metrics.md', 'utf8');
  expect(names.length).toBeGreaterThan(10);
  expect(names.filter((name) => !page.includes(`\n| \`${name}\` | `))).toEqual([]);
});
