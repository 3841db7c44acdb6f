import { basename } from 'node:path';
import type { EventStore } from '../event-store/event-store.js';
import { fractionBefore, type Position } from '../event-store/position.js';
import { type CheckedLog, checkLog, type LogCheck } from '../maintenance/check-log.js';
import { type Compared, compare, InconclusiveError } from '../maintenance/compare.js';
import { compareProjections, findProjectionsFiles } from '../maintenance/compare-projections.js';
import { type ScratchProjections, withScratchProjections } from '../maintenance/scratch-projections.js';
import { keySource } from '../projections/local/key-source.js';
import { countOf } from '../quantity.js';
import type { Settings } from '../settings.js';
import { jsonText, print } from '../terminal-text.js';
import { explain, withLog, withRedis } from './context.js';
import { startProgressBar } from './progress-bar.js';

const EXIT_CODES = { equal: 0, drift: 1, 'could not tell': 2 } as const;
/** Differences of one projections file that are printed: damage may be in every record. */
const MAX_PRINTED = 100;

/** Prints one finding, as text or as a line of JSON. */
type Report = (fields: object, text: string) => void;

/**
 * `keyledger audit verify`: checks the log, and compares with it the projections files in DATA_DIR and what Redis serves.
 * Sets the exit code.
 */
export async function auditVerify({ json }: { json?: boolean }): Promise<void> {
  const report: Report = (fields, text) => print(json ? jsonText(fields) : text);
  let verdict: keyof typeof EXIT_CODES = 'could not tell';
  const found = (problems: number) => {
    if (problems > 0) verdict = 'drift';
  };
  try {
    await withLog((log, settings) =>
      withScratchProjections(log.logId, async (scratch) => {
        const files = await checkLogAndFiles(log, settings, scratch, report, found);
        const compared = await compareRedis(log, settings, scratch, report);
        found(compared?.differences ?? 0);
        // No service runs on a read-only copy, so there is nothing else to check.
        if (files === 0 && !compared && !log.readOnly) {
          throw new InconclusiveError(`${settings.DATA_DIR} holds no projections to compare: start the service first`);
        }
        if (verdict !== 'drift') verdict = 'equal';
      }),
    );
  } catch (error) {
    const reason = explain(error);
    report({ kind: 'reason', reason }, `Could not tell: ${reason}`);
  }
  report({ kind: 'verdict', verdict }, `Result: ${verdict}`);
  process.exitCode = EXIT_CODES[verdict];
}

/**
 * A file that no process uses is compared when the fold is at its position, one in use at the end.
 * @param found called with the number of faults and differences
 * @returns the number of files
 */
async function checkLogAndFiles(
  log: EventStore,
  { DATA_DIR }: Settings,
  scratch: ScratchProjections,
  report: Report,
  found: (problems: number) => void,
): Promise<number> {
  const files = findProjectionsFiles(DATA_DIR);
  const inUse = files.flatMap(({ path, isInUse }) => (isInUse ? [path] : []));
  const atRest = files.flatMap(({ path, isInUse, held }) =>
    isInUse ? [] : [{ path, position: held?.position ?? ('' as Position) }],
  );
  const compareFile = async (path: string, last?: Position) => {
    const differences = await compareOne(log, path, scratch, report, last);
    if (differences === undefined) inUse.push(path);
    else found(differences);
  };
  const stops = atRest
    .sort((a, b) => (a.position < b.position ? -1 : 1))
    .map(({ path, position }) => ({ position, run: () => compareFile(path, position) }));
  const { faults } = await checkTheLog(log, scratch, stops, report);
  found(faults);
  for (const path of inUse) await compareFile(path);
  return files.length;
}

/** @returns the number of differences; undefined if the file is beyond `last`, see compareProjections */
async function compareOne(
  log: EventStore,
  path: string,
  scratch: ScratchProjections,
  report: Report,
  last: Position | undefined,
): Promise<number | undefined> {
  let differences = 0;
  const onDifference = (difference: string) => {
    differences++;
    if (differences <= MAX_PRINTED)
      report({ kind: 'difference', path, difference }, `${basename(path)}: ${difference}`);
  };
  const compared = await compareProjections(log, path, scratch, onDifference, last);
  if (!compared) return undefined;
  const { keys, events, position } = compared;
  const result = differences === 0 ? 'no difference from the log' : countOf(differences, 'differences');
  report(
    { kind: 'projections', path, keys, events, differences, position: position ?? null },
    `${basename(path)} holds ${countOf(events, 'events')} of ${countOf(keys, 'keys')} up to ${position ?? 'the beginning'}, with ${result}`,
  );
  return differences;
}

async function checkTheLog(
  log: EventStore,
  { store }: ScratchProjections,
  stops: LogCheck['stops'],
  report: Report,
): Promise<CheckedLog> {
  const end = await log.end();
  const progress = startProgressBar('Folding the log');
  let foreign = 0;
  const checked = await checkLog(log, store, {
    onViolation: (found) => {
      const { stream, revision, type, fault, position } = found;
      report({ kind: 'fault', ...found }, `${stream} revision ${revision} (${type}, ${position}): ${fault}`);
    },
    onChecked: ({ position }) => progress.add(1, fractionBefore(position, end)),
    onForeign: ({ stream, revision, type, position }) => {
      foreign++;
      const facts = { kind: 'foreign', stream, revision, position, type };
      report(facts, `${stream} revision ${revision} (${type}, ${position}): not an event of Keyledger, skipped`);
    },
    stops,
  }).finally(() => progress.end());
  const { events, faults, position } = checked;
  if (foreign > 0)
    report({ kind: 'foreign events', events: foreign }, `${countOf(foreign, 'events')} of other programs: no drift`);
  const { keys } = store.meta;
  report(
    { kind: 'log', events, keys, faults, position: position ?? null },
    `The log holds ${countOf(events, 'events')} of ${countOf(keys, 'keys')} up to ${position ?? 'its beginning'}, with ${faults === 0 ? 'no fault' : countOf(faults, 'faults')}`,
  );
  return checked;
}

async function compareRedis(
  log: EventStore,
  settings: Settings,
  { store }: ScratchProjections,
  report: Report,
): Promise<Compared | undefined> {
  const progress = startProgressBar('Comparing', store.meta.keys, 'keys');
  const compared = await withRedis(settings, (redis) =>
    compare(log, redis, settings.REDIS_PREFIX, keySource(store), {
      onDifference: (found) => {
        const { repoId, apiKeyId, difference } = found;
        const where = [repoId && `repository ${repoId}`, apiKeyId && `key ${apiKeyId}`].filter(Boolean);
        report({ kind: 'difference', ...found }, `${[...where, difference].join(': ')}`);
      },
      onCompared: (keys) => progress.add(keys),
    }),
  ).finally(() => progress.end());
  if (compared) {
    const { keys, differences, position } = compared;
    report(
      { kind: 'read model', keys, differences, position: position ?? null },
      `Redis serves ${countOf(keys, 'keys')} up to ${position ?? 'nothing'}, with ${differences === 0 ? 'no difference from the log' : countOf(differences, 'differences')}`,
    );
  }
  return compared;
}
