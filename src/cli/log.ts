import { type Command, Option } from 'commander';
import { eventsInRange, parseBound } from '../audit/event-range.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import { fractionBefore } from '../event-store/position.js';
import { exportLines, FORMAT, FORMAT_VERSION, type Header, inChunks, withTrailer } from '../log-transfer/export.js';
import { cloudEventLines, csvLines } from '../log-transfer/export-formats.js';
import { importEvents } from '../log-transfer/import.js';
import { checkExport, readExport } from '../log-transfer/read-export.js';
import { count, countOf } from '../quantity.js';
import { jsonText, print, printError } from '../terminal-text.js';
import { explain, recordCommandLineAccess, withLog } from './context.js';
import { openSource, type Source, writeFileAtomic, writeOut } from './files.js';
import { repository } from './options.js';
import { startProgressBar } from './progress-bar.js';

const FORMATS = ['ndjson', 'csv', 'cloudevents'] as const;

/** `keyledger log`: export and import of the log. */
export function addLogCommands(program: Command): void {
  const log = program.command('log').description('export and import the log');

  log
    .command('export')
    .description('export the whole log, or a part of it, as NDJSON; csv and cloudevents contain no secret material')
    .option('--output <file>', 'write to a file, completely or not at all, instead of stdout')
    .option('--gzip', 'compress the output; implied if the file name ends in .gz')
    .addOption(new Option('--format <format>', 'output format').choices(FORMATS).default('ndjson'))
    .option('--repo <id>', 'only events of this repository', repository)
    .option('--from <time or position>', 'events after a position, or that occurred at a time (RFC 3339) or later')
    .option('--to <time or position>', 'events up to and including a position, or a time')
    .option('--json', 'print the summary as JSON: on stdout with --output, otherwise on stderr')
    .action(exportLog);

  log
    .command('import')
    .description(
      'import an export into the configured log, which must be empty; a repeated import resumes where it stopped',
    )
    .argument('<file>', 'an export, gzipped or not; - for stdin')
    .option('--json', 'print the summary as JSON on stdout')
    .action(importLog);
}

type ExportOptions = {
  readonly output?: string;
  readonly gzip?: boolean;
  readonly format: (typeof FORMATS)[number];
  readonly repo?: string;
  readonly from?: string;
  readonly to?: string;
  readonly json?: boolean;
};

async function exportLog(options: ExportOptions): Promise<void> {
  const { output, format, repo, from, to, json } = options;
  await withLog(async (log) => {
    const bound = (text: string | undefined) => (text === undefined ? undefined : parseBound(text, log.logId));
    const selection = { from: bound(from), to: bound(to), repoId: repo };
    const query = { format, ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
    await recordCommandLineAccess(log, { access: 'export', repoId: repo ?? null, apiKeyId: null, query });
    const end = await log.end();
    const header: Header = {
      format: FORMAT,
      version: FORMAT_VERSION,
      logId: log.logId,
      from: from ?? null,
      to: to ?? end,
      repo: repo ?? null,
      exportedAt: new Date().toISOString(),
    };
    let events = 0;
    const started = performance.now();
    const progress = startProgressBar('Exporting');
    const counted = async function* () {
      for await (const recorded of eventsInRange(log, selection, end)) {
        yield recorded;
        events++;
        progress.add(1, fractionBefore(recorded.position, end));
      }
    };
    const chunks = encodeExport(format, header, counted());
    const gzip = options.gzip === true || output?.endsWith('.gz') === true;
    try {
      await (output === undefined ? writeOut(chunks, { gzip }) : writeFileAtomic(output, chunks, { gzip }));
    } finally {
      progress.end();
    }
    const seconds = (performance.now() - started) / 1000;
    const { exportedAt: _, version: __, ...of } = header;
    const summary = { ...of, format, events, output: output ?? null, seconds };
    const where = output === undefined ? '' : ` to ${output}`;
    const line = json
      ? jsonText(summary)
      : `Exported ${countOf(events, 'events')} of the log ${log.logId}${where} in ${seconds.toFixed(1)} s`;
    if (json && output !== undefined) print(line);
    else printError(line);
  });
}

function encodeExport(
  format: (typeof FORMATS)[number],
  header: Header,
  events: AsyncIterable<RecordedEvent>,
): AsyncIterable<Buffer> {
  switch (format) {
    case 'ndjson':
      return withTrailer(exportLines(header, events));
    case 'csv':
      return inChunks(csvLines(events));
    case 'cloudevents':
      return inChunks(cloudEventLines(events));
  }
}

async function importLog(file: string, { json }: { json?: boolean }): Promise<void> {
  const source = await openSource(file);
  try {
    const started = performance.now();
    const { header, events } = await checkSource(source);
    const { from, logId: fromLogId } = header;
    if (from !== null) {
      throw new Error(
        `This export begins in the middle of its log, after ${from}: only an export from the beginning can be imported`,
      );
    }
    await withLog(async (log) => {
      const { existing: there, written } = await importSource(log, source, events);
      const seconds = (performance.now() - started) / 1000;
      const summary = { events, there, written, logId: log.logId, fromLogId, seconds };
      const sentence =
        written === 0
          ? `${events === 1 ? 'The only event is' : `All ${countOf(events, 'events')} are`} already in the log ${log.logId}`
          : `Imported ${countOf(written, 'events')} into the log ${log.logId}, which already held ${count(there)}, in ${seconds.toFixed(1)} s`;
      print(json ? jsonText(summary) : sentence);
    }, 'to write');
  } finally {
    await source.close();
  }
}

/** Checks the whole export before anything is written. */
async function checkSource(source: Source) {
  const progress = startProgressBar('Checking');
  try {
    return await checkExport(source.read(), () => progress.add(1));
  } finally {
    progress.end();
  }
}

async function importSource(log: EventStore, source: Source, total: number) {
  const progress = startProgressBar('Importing', total);
  try {
    const { events } = await readExport(source.read());
    return await importEvents(log, events, () => progress.add(1));
  } catch (error) {
    if (!(error instanceof KeyledgerError)) throw error;
    const why = error.code === 'CONFLICT' ? error.message : explain(error.cause ?? error);
    const next =
      error.code === 'CONFLICT'
        ? 'Another program writes to this log, or the exported log had lost events'
        : 'Run it again to resume where it stopped';
    throw new Error(`The import has stopped. ${why}. ${next}`);
  } finally {
    progress.end();
  }
}
