import type { Call, Inflicted } from '../history.js';
import type { Death } from '../instance.js';
import type { FaultKind } from '../schedule.js';

/** Every call is answered within this, whatever is out of reach (milliseconds). */
export const LIMIT_MS = 10_000;
/** A process that is slowed may take so much longer to come back to what it was at. */
const AFTER_MS = 2000;

/** While these last, the instance itself, or the way to it, can answer nobody. */
const SILENCING: readonly FaultKind[] = [
  'service stopped',
  'clients delayed',
  'clients half-open',
  'disk full',
  'fsync fails',
];

/** No call hangs, but for as long as nobody could have answered it. */
export function checkHangs(calls: readonly Call[], faults: readonly Inflicted[]): string[] {
  const silent = faults.filter(({ kind }) => SILENCING.includes(kind));
  const found: string[] = [];
  for (const { id, kind, instance, startedAt, endedAt, answer } of calls) {
    const took = endedAt - startedAt;
    if (took <= LIMIT_MS) continue;
    const silentFor = silent
      .filter((fault) => fault.instance === instance)
      .map(({ from, to }) => Math.min(to, endedAt) - Math.max(from, startedAt))
      .filter((ms) => ms > 0)
      .reduce((sum, ms) => sum + ms + AFTER_MS, 0);
    if (took > LIMIT_MS + silentFor) {
      found.push(`${kind} (${id}) took ${Math.round(took)} ms, answered ${answer?.status ?? 'nothing'}`);
    }
  }
  return found;
}

/** No call gets an answer that those who ask for nothing wrong should not see. */
export function checkAnswers(calls: readonly Call[]): string[] {
  return calls.flatMap(({ id, kind, answer }) =>
    !answer || answer.status < 400 || EXPECTED.includes(`${answer.status} ${answer.code}`)
      ? []
      : [`${kind} (${id}) answered ${answer.status} ${answer.code}: ${answer.body['message']}`],
  );
}

/** All that clients who ask for nothing wrong may be told. */
const EXPECTED = [
  '404 KEY_NOT_FOUND',
  '408 TIMEOUT',
  '409 CONFLICT',
  '409 KEY_QUARANTINED',
  '409 IDEMPOTENCY_KEY_USED',
  '503 UNAVAILABLE',
  '503 OUTCOME_UNKNOWN',
  '503 BEHIND',
  '503 STALE',
];

/** EX_SOFTWARE: the disk cannot be trusted any more, or the log is not the one that it was. */
const LOG_FAILED = 'exit 70';
/** Whoever ends so answers what is under way before (milliseconds). */
const FAREWELL_MS = 10_000;
const LOG_FAULTS: readonly FaultKind[] = [
  'log killed',
  'log stopped',
  'log cut off',
  'log delayed',
  'log half-open',
  'log restored',
  'disk full',
  'fsync fails',
];

/** A service ends by itself only where its log fails it, or where it cannot begin without it. */
export function checkDeaths(deaths: readonly Death[], faults: readonly Inflicted[]): string[] {
  const during = (kinds: readonly FaultKind[], from: number, to: number) =>
    faults.some((fault) => kinds.includes(fault.kind) && fault.from < to && fault.to > from);
  return deaths
    .filter(({ how, served, startedAt, at }) => {
      if (how === LOG_FAILED && during(['fsync fails', 'disk full', 'log restored'], at - FAREWELL_MS, at))
        return false;
      return served || !during(LOG_FAULTS, startedAt, at);
    })
    .map(({ instance, how, lastWords }) => `instance ${instance} ended: ${how}\n${lastWords}`);
}
