import { hashOf } from '../../src/security/credentials.js';
import { type Call, type Era, saysNothing } from '../history.js';
import type { KeyState, LifeEvent, Lives } from './lives.js';

/** Places in the log, both inclusive, one of which a read has seen. */
type Span = readonly [from: number, to: number];

/**
 * Every list, key and verification result is that of one place in the log: not before the requested minimum position,
 * not before what had been answered longer ago than the staleness in the answer, and not after the end of the log.
 */
export function checkReads(era: Era, lives: Lives): string[] {
  const placeOf = new Map(era.events.map(({ position }, place) => [position as string, place]));
  const known = knownSince(era, lives);
  const byRepository = new Map<string, (readonly LifeEvent[])[]>();
  const byAccessKey = new Map<string, readonly LifeEvent[]>();
  for (const life of lives.values()) {
    const { repoId, accessKey } = (life[0] as LifeEvent).state;
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
        ? wrongResult(call, byAccessKey.get(call.key ?? ''), window, placeOf)
        : kind === 'list'
          ? wrongList(call, byRepository.get(repoId) ?? [], window)
          : wrongKey(call, lives.get(apiKeyId) ?? [], window);
    if (wrong) say(wrong);
  }
  return found;
}

/** The service rounds staleness to a tenth of a second. */
const ROUNDING_S = 0.1;
/** An answer without a staleness may be of any age. */
const staleOf = ({ answer }: Call) => (answer?.staleness ?? Number.POSITIVE_INFINITY) + ROUNDING_S;

/** Last place in the log whose event had been acknowledged by a point in time. */
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

/** Spans in which the state of a key satisfies `holds`; before its creation the state is undefined. */
function spansWhere(life: readonly LifeEvent[], holds: (state: KeyState | undefined) => boolean, end: number): Span[] {
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

function wrongList({ answer }: Call, keys: readonly (readonly LifeEvent[])[], window: Span): string | undefined {
  if (answer?.status !== 200) return `answered ${answer?.status} ${answer?.code}`;
  const shown = new Map((answer.body['apiKeys'] as Shown[]).map((key) => [key.id, key]));
  let spans: Span[] = [window];
  for (const life of keys) {
    const id = String((life[0] as LifeEvent).data['apiKeyId']);
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

function wrongKey({ answer }: Call, life: readonly LifeEvent[], window: Span): string | undefined {
  const one = answer?.body['apiKey'] as Shown | undefined;
  if (!one && answer?.status !== 404) return `answered ${answer?.status} ${answer?.code}`;
  const holds = one
    ? (state: KeyState | undefined) => isAs(one, state)
    : (state: KeyState | undefined) => !isShown(state);
  if (intersect([window], spansWhere(life, holds, window[1])).length > 0) return undefined;
  return `it is ${one ? `shown as ${one.status} and ${one.name}` : 'not found'}, as it was at no place of the log from ${window[0]} on`;
}

function wrongResult(
  { secret = '', answer }: Call,
  life: readonly LifeEvent[] | undefined,
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
  const state = life?.findLast((event) => event.place <= place)?.state;
  const result = verifyCredential(state, hash);
  if (result !== 'valid') return `valid as of place ${place}, where the log says ${result}`;
  const { name } = answer.body['apiKey'] as Shown;
  return name === state?.name ? undefined : `valid by the name of ${name}, and it was ${state?.name}`;
}

function verifyCredential(state: KeyState | undefined, hash: string): string {
  if (!state) return 'UNKNOWN';
  if (!state.hashes.includes(hash)) return 'BAD_SECRET';
  if (state.status === 'active') return 'valid';
  return state.status.toUpperCase();
}
