import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';

/** Rows of the table of risks in docs/security.md, by risk. */
const rows = readFileSync('docs/security.md', 'utf8')
  .split('\n')
  .flatMap((line) => [[/^\| (API\d+) /.exec(line)?.[1], line] as const])
  .filter(([risk]) => risk !== undefined);

it('docs/security.md has a row for each of the ten risks', () => {
  expect(rows.map(([risk]) => risk)).toEqual(Array.from({ length: 10 }, (_, i) => `API${i + 1}`));
});

it.each(rows)('the tests that docs/security.md names for %s exist', (_, row) => {
  const references = [...row.matchAll(/\[(test\/\S+)\]\(\.\.\/(\S+)\): “([^”]+)”/g)];
  expect(references.length).toBeGreaterThan(0);
  expect(references).toHaveLength(row.split('.test.ts]').length - 1);
  for (const [, file = '', link, title = ''] of references) {
    expect(link).toBe(file);
    expect([title, readFileSync(file, 'utf8').includes(`'${title}'`)]).toEqual([title, true]);
  }
});
