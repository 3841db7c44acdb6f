import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Measured, measured } from './measured.js';

/**
 * Export, gzipped export and import of a big log, each in a process of its own: seconds, events a second and peak
 * memory. `copies [events=1000000] [url of an empty EventStoreDB to import into, too]`
 */
const events = Number(process.argv[2] ?? 1_000_000);
const eventStoreDb = process.argv[3];
const CLI = 'dist/src/cli.js';
const folder = mkdtempSync(join(tmpdir(), 'keyledger-bench-'));
const file = (name: string) => join(folder, name);
const on = (url: string) => ({ DATA_DIR: folder, EVENT_STORE_URL: url });

try {
  const log = on(`sqlite:${file('log.db')}`);
  report('make', await measured(['dist/bench/make-log.js', file('log.db'), String(events)], log));
  for (const name of ['export.ndjson', 'export.ndjson.gz']) {
    const run = await measured([CLI, 'log', 'export', '--output', file(name)], log);
    report(name, run, statSync(file(name)).size);
  }
  for (const format of ['csv', 'cloudevents']) {
    const args = ['log', 'export', '--format', format, '--output', file(format)];
    report(format, await measured([CLI, ...args], log), statSync(file(format)).size);
  }
  const load = [CLI, 'log', 'import', file('export.ndjson.gz')];
  report('import, SQLite', await measured(load, on(`sqlite:${file('copy.db')}`)));
  report('import, all there', await measured(load, on(`sqlite:${file('copy.db')}`)));
  if (eventStoreDb) report('import, EventStoreDB', await measured(load, on(eventStoreDb)));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function report(name: string, { seconds, peakMiB }: Measured, bytes?: number): void {
  const size = bytes === undefined ? '' : `  ${(bytes / 2 ** 20).toFixed(0)} MiB`;
  console.log(
    `${name.padEnd(22)}${seconds.toFixed(1).padStart(8)} s  ${(events / seconds).toFixed(0).padStart(7)} events/s  peak ${peakMiB.toFixed(0)} MiB${size}`,
  );
}
