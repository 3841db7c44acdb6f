import type { Call, Inflicted } from '../history.js';
import type { Death } from '../instance.js';
import type { FaultKind } from '../schedule.js';

/** Limit for the answer to any call, whatever is unavailable (milliseconds). */
export const LIMIT_MS = 10_000;
/** Additional time that a slowed process needs to catch up (milliseconds). */
const CATCH_UP_MS = 2000;

/** Faults during which the instance, or the network to it, can answer no client. */
const SILENCING: readonly FaultKind[] = [
  'service stopped',
  'clients delayed',
  'clients half-open',
  'disk full',
  'fsync fails',
];

/** No call hangs longer than a fault prevented any answer. */
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
      .reduce((sum, ms) => sum + ms + CATCH_UP_MS, 0);
    if (took > LIMIT_MS + silentFor) {
      found.push(`${kind} (${id}) took ${Math.round(took)} ms, answered ${answer?.status ?? 'nothing'}`);
    }
  }
  return found;
}

/** No call gets an error that a correct client should not see. */
export function checkAnswers(calls: readonly Call[]): string[] {
  return calls.flatMap(({ id, kind, answer }) =>
    !answer || answer.status < 400 || EXPECTED.includes(`${answer.status} ${answer.code}`)
      ? []
      : [`${kind} (${id}) answered ${answer.status} ${answer.code}: ${answer.body['message']}`],
  );
}

/** Errors that a correct client may see. */
const EXPECTED = [
  '404 KEY_NOT_FOUND',
  '408 TIMEOUT',
  '409 CONFLICT',
  '409 KEY_QUARANTINED',
  '409 IDEMPOTENCY_KEY_USED',
  '503 UNAVAILABLE',
  '503 OUTCOME_UNKNOWN',
  '503 BEHIND',
  '503 STARTING',
  '503 PROJECTIONS_DAMAGED',
  '503 STALE',
];

/** EX_SOFTWARE: the disk is no longer reliable, or the log is no longer the same. */
const LOG_FAILED = 'exit 70';
/** Time in which such an instance answers its requests before it exits (milliseconds). */
const DRAIN_TIMEOUT_MS = 10_000;
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

/** An instance exits by itself only if its log fails, or if it cannot start without it. */
export function checkDeaths(deaths: readonly Death[], faults: readonly Inflicted[]): string[] {
  const during = (kinds: readonly FaultKind[], from: number, to: number) =>
    faults.some((fault) => kinds.includes(fault.kind) && fault.from < to && fault.to > from);
  return deaths
    .filter(({ how, served, startedAt, at }) => {
      if (how === LOG_FAILED && during(['fsync fails', 'disk full', 'log restored'], at - DRAIN_TIMEOUT_MS, at))
        return false;
      return served || !during(LOG_FAULTS, startedAt, at);
    })
    .map(({ instance, how, lastWords }) => `instance ${instance} ended: ${how}\n${lastWords}`);
}
