import { readFileSync, writeFileSync } from 'node:fs';
import { cliReference } from './reference/cli.js';
import { errorReference } from './reference/errors.js';
import { eventReference } from './reference/events.js';
import { callReference, callTable, objectReference } from './reference/http-api.js';
import { metricReference } from './reference/metrics.js';
import { allMetrics, startService } from './reference/service.js';

/**
 * Writes the generated parts of the README and of docs/reference from what the built service says of itself. Each part stands between two
 * comments that name it; everything else on a page is written by hand.
 *
 *   node dist/scripts/make-reference.js [--check]
 *
 * With --check it writes nothing, prints a line for each part that differs, and ends with exit code 1 if there is one.
 */
const service = await startService();
const parts = await service.use(async (running) => {
  const calls = await running.calls();
  return [
    ['README.md', 'calls', callTable(calls, 'docs/reference/http-api.md')],
    ['docs/reference/http-api.md', 'calls', callTable(calls)],
    ['docs/reference/http-api.md', 'details', callReference(calls)],
    ['docs/reference/http-api.md', 'objects', objectReference(calls)],
    ['docs/reference/errors.md', 'errors', errorReference()],
    ['docs/reference/events.md', 'stored events', eventReference()],
    ['docs/reference/metrics.md', 'metrics', metricReference(await allMetrics())],
    ['docs/reference/cli.md', 'commands', await cliReference()],
  ] as const;
});

for (const [file, name, generated] of parts) {
  const text = readFileSync(file, 'utf8');
  const [begin, end] = [`<!-- Generated: ${name} -->\n`, `<!-- End of ${name} -->\n`];
  const [before, rest] = split(file, text, begin);
  const [, after] = split(file, rest, end);
  const written = `${before}${begin}\n${generated.trim()}\n\n${end}${after}`;
  if (written === text) continue;
  if (process.argv.includes('--check')) {
    console.log(`${file}: "${name}" is not what the built service says: run npm run reference`);
    process.exitCode = 1;
  } else writeFileSync(file, written);
}

function split(file: string, text: string, mark: string): [string, string] {
  const [before, after, ...more] = text.split(mark);
  if (before === undefined || after === undefined || more.length > 0)
    throw new Error(`${file} needs ${mark.trim()} exactly once`);
  return [before, after];
}
