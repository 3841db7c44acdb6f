import { hashOf } from '../../src/security/credentials.js';
import { type Call, type Era, saysNothing } from '../history.js';
import type { KeyState, Lives, Moment } from './lives.js';

/** Places in the log, both included: what a read has seen is known to be one of them. */
type Span = readonly [from: number, to: number];

/**
 * Every list, key and verdict is that of one place in the log: not before the position that was asked for, not before
 * what had been answered longer ago than the staleness that it owns up to, and not after its own end.
 */
export function checkReads(era: Era, lives: Lives): string[] {
  const placeOf = new Map(era.events.map(({ position }, place) => [position as string, place]));
  const known = knownSince(era, lives);
  const byRepository = new Map<string, (readonly Moment[])[]>();
  const byAccessKey = new Map<string, readonly Moment[]>();
  for (const life of lives.values()) {
    const { repoId, accessKey } = (life[0] as Moment).state;
    byRepository.set(repoId, [...(byRepository.get(repoId) ?? []), life]);
    byAccessKey.set(accessKey, life);
  }
  const found: string[] = [];
  for (const call of era.calls) {
    const { kind, answer, minPosition, repoId, apiKeyId = '' } = call;
    if (!answer || saysNothing(answer) || !['list', 'get', 'verify'].includes(kind)) continue;
    const say = (what: string) => found.push(`${kind} (${call.id}) of ${apiKeyId || repoId}: ${what}`);
    const minimum = minPosition === undefined ? -1 : placeOf.get(minPosition);
    if (minimum === undefined) {
      say(`it was answered as of ${minPosition}, which this log does not hold`);
      continue;
    }
    const least = Math.max(era.restored - 1, minimum, known(call.startedAt - 1000 * staleOf(call)));
    const window: Span = [least, era.events.length - 1];
    const wrong =
      kind === 'verify'
        ? wrongVerdict(call, byAccessKey.get(call.key ?? ''), window, placeOf)
        : kind === 'list'
          ? wrongList(call, byRepository.get(repoId) ?? [], window)
          : wrongKey(call, lives.get(apiKeyId) ?? [], window);
    if (wrong) say(wrong);
  }
  return found;
}

/** What is told is rounded to a tenth of a second. */
const ROUNDING_S = 0.1;
/** An answer that says nothing of how old it is may be as old as it likes. */
const staleOf = ({ answer }: Call) => (answer?.staleness ?? Number.POSITIVE_INFINITY) + ROUNDING_S;

/** Of a moment the last place in the log that had been answered for by then. */
function knownSince({ calls, restored }: Era, lives: Lives): (at: number) => number {
  const placeOf = new Map([...lives.values()].flat().map(({ requestId, place }) => [requestId, place]));
  const answered = calls
    .filter(({ id, answer }) => placeOf.has(id) && answer && answer.status < 300)
    .sort((a, b) => a.endedAt - b.endedAt);
  const times = answered.map(({ endedAt }) => endedAt);
  let last = restored - 1;
  const places = answered.map(({ id }) => {
    last = Math.max(last, placeOf.get(id) as number);
    return last;
  });
  return (at) => {
    let [low, high] = [0, times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((times[middle] as number) < at) low = middle + 1;
      else high = middle;
    }
    return places[low - 1] ?? restored - 1;
  };
}

/** The spans in which a key, after its creation or (with 'absent') before it too, was as the test says. */
function spansWhere(
  life: readonly Moment[],
  holds: (state: KeyState | undefined) => boolean,
  end: number,
): Span[] {
  const spans: Span[] = [];
  const first = life[0]?.place ?? end + 1;
  if (holds(undefined) && first > 0) spans.push([-1, first - 1]);
  for (const [revision, { place, state }] of life.entries()) {
    const next = life[revision + 1]?.place ?? end + 1;
    if (holds(state)) spans.push([place, next - 1]);
  }
  return spans;
}

function intersect(some: readonly Span[], others: readonly Span[]): Span[] {
  return some.flatMap(([from, to]) =>
    others.flatMap(([begin, end]) => {
      const span: Span = [Math.max(from, begin), Math.min(to, end)];
      return span[0] <= span[1] ? [span] : [];
    }),
  );
}

const isShown = (state: KeyState | undefined) => state !== undefined && state.status !== 'deleted';

function isAs(shown: Shown, state: KeyState | undefined): boolean {
  return state !== undefined && state.name === shown.name && state.status === shown.status;
}

type Shown = { readonly id: string; readonly name: string; readonly status: string };

function wrongList({ answer }: Call, keys: readonly (readonly Moment[])[], window: Span): string | undefined {
  if (answer?.status !== 200) return `answered ${answer?.status} ${answer?.code}`;
  const shown = new Map((answer.body['apiKeys'] as Shown[]).map((key) => [key.id, key]));
  let spans: Span[] = [window];
  for (const life of keys) {
    const id = String((life[0] as Moment).data['apiKeyId']);
    const one = shown.get(id);
    shown.delete(id);
    const holds = one
      ? (state: KeyState | undefined) => isAs(one, state)
      : (state: KeyState | undefined) => !isShown(state);
    const left = intersect(spans, spansWhere(life, holds, window[1]));
    if (left.length === 0) {
      return `key ${id} is ${one ? `shown as ${one.status} and ${one.name}` : 'not shown'}, as it was at no place of the log within ${JSON.stringify(spans.slice(0, 3))}`;
    }
    spans = left;
  }
  return shown.size > 0 ? `it shows ${[...shown.keys()].join()}, which the log does not hold` : undefined;
}

function wrongKey({ answer }: Call, life: readonly Moment[], window: Span): string | undefined {
  const one = answer?.body['apiKey'] as Shown | undefined;
  if (!one && answer?.status !== 404) return `answered ${answer?.status} ${answer?.code}`;
  const holds = one
    ? (state: KeyState | undefined) => isAs(one, state)
    : (state: KeyState | undefined) => !isShown(state);
  if (intersect([window], spansWhere(life, holds, window[1])).length > 0) return undefined;
  return `it is ${one ? `shown as ${one.status} and ${one.name}` : 'not found'}, as it was at no place of the log from ${window[0]} on`;
}

function wrongVerdict(
  { secret = '', answer }: Call,
  life: readonly Moment[] | undefined,
  window: Span,
  placeOf: ReadonlyMap<string, number>,
): string | undefined {
  if (answer?.status !== 200) return `answered ${answer?.status} ${answer?.code}`;
  const hash = hashOf(secret);
  if (answer.body['valid'] !== true) {
    const { reason } = answer.body;
    const spans = spansWhere(life ?? [], (state) => verifyCredential(state, hash) === reason, window[1]);
    if (intersect([window], spans).length > 0) return undefined;
    return `${reason}, as it was at no place of the log from ${window[0]} on`;
  }
  const place = placeOf.get(answer.position ?? '');
  if (place === undefined) return `valid as of ${answer.position}, which this log does not hold`;
  if (place < window[0]) return `valid as of place ${place}, but it owed ${window[0]}`;
  const state = life?.findLast((moment) => moment.place <= place)?.state;
  const verdict = verifyCredential(state, hash);
  if (verdict !== 'valid') return `valid as of place ${place}, where the log says ${verdict}`;
  const { name } = answer.body['apiKey'] as Shown;
  return name === state?.name ? undefined : `valid by the name of ${name}, and it was ${state?.name}`;
}

function verifyCredential(state: KeyState | undefined, hash: string): string {
  if (!state) return 'UNKNOWN';
  if (!state.hashes.includes(hash)) return 'BAD_SECRET';
  if (state.status === 'active') return 'valid';
  return state.status.toUpperCase();
}
