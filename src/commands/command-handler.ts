import { setTimeout } from 'node:timers/promises';
import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { Actor } from '../domain/authorization.js';
import { KeyledgerError } from '../domain/errors.js';
import { encode } from '../event-store/codec.js';
import type { KnownEvent } from '../event-store/event-schemas.js';
import type { EventStore, Expected, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { turnstile } from './keyed-mutex.js';

export type AppendOutcome = 'appended' | 'conflict';

/** Who asked, under which request id, and the clock (milliseconds since 1970). */
export type CommandContext = {
  readonly log: EventStore;
  readonly onAppend?: (outcome: AppendOutcome) => void;
  readonly clock: () => number;
  readonly actor: Actor;
  readonly requestId: string;
};

/** A kind of stream: what its events are, what they make, and which commands cause them. */
export type Aggregate<Command, State, Decoded extends { readonly occurredAt: string }> = {
  readonly stream: (id: string) => string;
  readonly decode: (recorded: RecordedEvent, revision: number) => Decoded;
  readonly evolve: (state: State | undefined, event: Decoded) => State;
  readonly decide: (command: Command, state: State | undefined, now: string) => KnownEvent[];
};

/** What became of a command: the state before it, what it changed, the position of the stream's last event. */
export type Handled<State = unknown> = {
  readonly before: State | undefined;
  readonly changed: boolean;
  readonly position: Position;
};

/** Other processes may win that many races for one stream. */
const MAX_ATTEMPTS = 10;
/** A command whose turn comes later than this is not begun: behind a log that does not answer, all fail together. */
const LONGEST_WAIT_MS = 3500;
/** How often, and for how long at most, a log is asked for what it has refused an append by (milliseconds). */
const LOOK_MS = 10;
const SHOWN_WITHIN_MS = 300;
const inTurn = turnstile();

/**
 * What handles the commands of an aggregate: load, decide, append; on a conflict load again and decide anew. Commands
 * append nowhere else.
 * @param commandFor the command, given the state that it is decided on
 * @param load 'assume empty' decides on no state first: for streams that can hardly exist already
 * @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races
 */
export const handlerOf =
  <Command, State, Decoded extends { readonly occurredAt: string }>(
    aggregate: Aggregate<Command, State, Decoded>,
  ) =>
  (
    context: CommandContext,
    id: string,
    commandFor: (state: State | undefined) => Command,
    load: 'load' | 'assume empty' = 'load',
  ): Promise<Handled<State>> => {
    const stream = aggregate.stream(id);
    const asked = performance.now();
    return inTurn(context.log.logId + stream, () => {
      if (performance.now() - asked > LONGEST_WAIT_MS) throw new KeyledgerError('UNAVAILABLE');
      return handle(context, aggregate, commandFor, stream, load);
    });
  };

async function handle<Command, State, Decoded extends { readonly occurredAt: string }>(
  { log, clock, actor, requestId, onAppend }: CommandContext,
  aggregate: Aggregate<Command, State, Decoded>,
  commandFor: (state: State | undefined) => Command,
  stream: string,
  load: 'load' | 'assume empty',
): Promise<Handled<State>> {
  const commandId = uuidV4();
  const cause = { actor, requestId, commandId };
  let history: History<State> = load === 'load' ? await readHistory(log, aggregate, stream) : EMPTY;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const now = new Date(clock()).toISOString();
    const decided = aggregate.decide(commandFor(history.state), history.state, now);
    if (decided.length === 0 && history.position) {
      return { before: history.state, changed: false, position: history.position };
    }
    const occurredAt = later(now, history.lastOccurredAt);
    const events = decided.map((event, i) => encode(event, uuidV5(String(i), commandId), occurredAt, cause));
    const result = await log.append(stream, events, history.revision);
    onAppend?.(result.appended ? 'appended' : 'conflict');
    if (result.appended) return { before: history.state, changed: true, position: result.position };
    history = await historyUpTo(result.actual, () => readHistory(log, aggregate, stream));
  }
  throw new KeyledgerError('CONFLICT');
}

type History<State> = {
  readonly state: State | undefined;
  readonly revision: Expected;
  readonly position?: Position;
  readonly lastOccurredAt: string;
};

const EMPTY = { state: undefined, revision: 'none', lastOccurredAt: '' } as const;

/** EventStoreDB refuses by what it is still writing, and shows it a little later: until then no race is lost. */
async function historyUpTo<State>(
  actual: Expected,
  read: () => Promise<History<State>>,
): Promise<History<State>> {
  const giveUpAt = performance.now() + SHOWN_WITHIN_MS;
  for (;;) {
    const history = await read();
    const isThere = actual === 'none' || (history.revision !== 'none' && history.revision >= actual);
    if (isThere || performance.now() > giveUpAt) return history;
    await setTimeout(LOOK_MS);
  }
}

async function readHistory<State, Decoded extends { readonly occurredAt: string }>(
  log: EventStore,
  { decode, evolve }: Pick<Aggregate<never, State, Decoded>, 'decode' | 'evolve'>,
  stream: string,
): Promise<History<State>> {
  let history: History<State> = EMPTY;
  for await (const recorded of log.readStream(stream)) {
    const event = decode(recorded, history.revision === 'none' ? 0 : history.revision + 1);
    history = {
      state: evolve(history.state, event),
      revision: recorded.revision,
      position: recorded.position,
      lastOccurredAt: later(event.occurredAt, history.lastOccurredAt),
    };
  }
  return history;
}

/** Of two RFC 3339 times in UTC with milliseconds, or ''. */
const later = (a: string, b: string): string => (a > b ? a : b);
