import type { EventStore } from '../event-store/event-store.js';
import { fractionBefore } from '../event-store/position.js';
import { type CheckedLog, checkLog } from '../maintenance/check-log.js';
import { type Compared, compare } from '../maintenance/compare.js';
import { countOf } from '../quantity.js';
import type { Settings } from '../settings.js';
import { jsonText, print } from '../terminal-text.js';
import { explain, withLog, withRedis } from './context.js';
import { startProgressBar } from './progress-bar.js';

const EXIT_CODES = { equal: 0, drift: 1, 'could not tell': 2 } as const;

/** Prints one finding, as text or as a line of JSON. */
type Report = (fields: object, text: string) => void;

/** `keyledger audit verify`: checks the log, and compares what Redis serves with it. Sets the exit code. */
export async function auditVerify({ json }: { json?: boolean }): Promise<void> {
  const report: Report = (fields, text) => print(json ? jsonText(fields) : text);
  let verdict: keyof typeof EXIT_CODES = 'could not tell';
  try {
    await withLog(async (log, settings) => {
      const checked = await checkTheLog(log, report);
      if (checked.faults > 0) verdict = 'drift';
      const compared = await compareRedis(log, settings, checked, report);
      if (compared?.differences) verdict = 'drift';
      if (verdict !== 'drift') verdict = 'equal';
    });
  } catch (error) {
    const reason = explain(error);
    report({ kind: 'reason', reason }, `Could not tell: ${reason}`);
  }
  report({ kind: 'verdict', verdict }, `Result: ${verdict}`);
  process.exitCode = EXIT_CODES[verdict];
}

async function checkTheLog(log: EventStore, report: Report): Promise<CheckedLog> {
  const end = await log.end();
  const progress = startProgressBar('Folding the log');
  let foreign = 0;
  const checked = await checkLog(
    log,
    (found) => {
      const { stream, revision, type, fault, position } = found;
      report({ kind: 'fault', ...found }, `${stream} revision ${revision} (${type}, ${position}): ${fault}`);
    },
    ({ position }) => progress.add(1, fractionBefore(position, end)),
    ({ stream, revision, type, position }) => {
      foreign++;
      const facts = { kind: 'foreign', stream, revision, position, type };
      report(facts, `${stream} revision ${revision} (${type}, ${position}): not an event of Keyledger, skipped`);
    },
  ).finally(() => progress.end());
  const { events, faults, position } = checked;
  if (foreign > 0)
    report({ kind: 'foreign events', events: foreign }, `${countOf(foreign, 'events')} of other programs: no drift`);
  const keys = checked.entries.size;
  report(
    { kind: 'log', events, keys, faults, position: position ?? null },
    `The log holds ${countOf(events, 'events')} of ${countOf(keys, 'keys')} up to ${position ?? 'its beginning'}, with ${faults === 0 ? 'no fault' : countOf(faults, 'faults')}`,
  );
  return checked;
}

async function compareRedis(
  log: EventStore,
  settings: Settings,
  { entries }: CheckedLog,
  report: Report,
): Promise<Compared | undefined> {
  const progress = startProgressBar('Comparing', entries.size, 'keys');
  const compared = await withRedis(settings, (redis) =>
    compare(log, redis, settings.REDIS_PREFIX, entries.values(), {
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
  } else {
    report(
      { kind: 'read model', inMemory: true },
      'The read model is in the memory of each instance, which builds it from the log when it starts: no stored data can differ',
    );
  }
  return compared;
}
