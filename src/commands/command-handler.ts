import { setTimeout } from 'node:timers/promises';
import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { Actor } from '../domain/authorization.js';
import { KeyledgerError } from '../domain/errors.js';
import { encode } from '../event-store/codec.js';
import type { DomainEvent } from '../event-store/event-schemas.js';
import type { EventStore, ExpectedRevision, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { keyedMutex } from './keyed-mutex.js';

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
  readonly decide: (command: Command, state: State | undefined, now: string) => DomainEvent[];
};

/** What became of a command: the state before it, what it changed, the position of the stream's last event. */
export type CommandResult<State = unknown> = {
  readonly before: State | undefined;
  readonly changed: boolean;
  readonly position: Position;
};

/** Other processes may win that many races for one stream. */
const MAX_ATTEMPTS = 10;
/** A command whose turn comes later than this is not begun: behind a log that does not answer, all fail together. */
const QUEUE_TIMEOUT_MS = 3500;
/** How often, and for how long at most, a log is asked for what it has refused an append by (milliseconds). */
const VISIBILITY_POLL_MS = 10;
const VISIBILITY_TIMEOUT_MS = 300;
const inOrder = keyedMutex();

/**
 * What handles the commands of an aggregate: load, decide, append; on a conflict load again and decide anew. Commands
 * append nowhere else.
 * @param buildCommand the command, given the state that it is decided on
 * @param load 'assume empty' decides on no state first: for streams that can hardly exist already
 * @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races
 */
export const commandHandler =
  <Command, State, Decoded extends { readonly occurredAt: string }>(
    aggregate: Aggregate<Command, State, Decoded>,
  ) =>
  (
    context: CommandContext,
    id: string,
    buildCommand: (state: State | undefined) => Command,
    load: 'load' | 'assume empty' = 'load',
  ): Promise<CommandResult<State>> => {
    const stream = aggregate.stream(id);
    const queuedAt = performance.now();
    return inOrder(context.log.logId + stream, () => {
      if (performance.now() - queuedAt > QUEUE_TIMEOUT_MS) throw new KeyledgerError('UNAVAILABLE');
      return execute(context, aggregate, buildCommand, stream, load);
    });
  };

async function execute<Command, State, Decoded extends { readonly occurredAt: string }>(
  { log, clock, actor, requestId, onAppend }: CommandContext,
  aggregate: Aggregate<Command, State, Decoded>,
  buildCommand: (state: State | undefined) => Command,
  stream: string,
  load: 'load' | 'assume empty',
): Promise<CommandResult<State>> {
  const commandId = uuidV4();
  const cause = { actor, requestId, commandId };
  let loaded: LoadedStream<State> = load === 'load' ? await loadStream(log, aggregate, stream) : NO_STREAM;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const now = new Date(clock()).toISOString();
    const decided = aggregate.decide(buildCommand(loaded.state), loaded.state, now);
    if (decided.length === 0 && loaded.position) {
      return { before: loaded.state, changed: false, position: loaded.position };
    }
    const occurredAt = maxTime(now, loaded.lastOccurredAt);
    const events = decided.map((event, i) => encode(event, uuidV5(String(i), commandId), occurredAt, cause));
    const result = await log.append(stream, events, loaded.revision);
    onAppend?.(result.appended ? 'appended' : 'conflict');
    if (result.appended) return { before: loaded.state, changed: true, position: result.position };
    loaded = await reloadUntilVisible(result.actualRevision, () => loadStream(log, aggregate, stream));
  }
  throw new KeyledgerError('CONFLICT');
}

type LoadedStream<State> = {
  readonly state: State | undefined;
  readonly revision: ExpectedRevision;
  readonly position?: Position;
  readonly lastOccurredAt: string;
};

const NO_STREAM = { state: undefined, revision: 'no-stream', lastOccurredAt: '' } as const;

/** EventStoreDB refuses by what it is still writing, and shows it a little later: until then no race is lost. */
async function reloadUntilVisible<State>(
  actualRevision: ExpectedRevision,
  read: () => Promise<LoadedStream<State>>,
): Promise<LoadedStream<State>> {
  const giveUpAt = performance.now() + VISIBILITY_TIMEOUT_MS;
  for (;;) {
    const loaded = await read();
    const isThere =
      actualRevision === 'no-stream' ||
      (loaded.revision !== 'no-stream' && loaded.revision >= actualRevision);
    if (isThere || performance.now() > giveUpAt) return loaded;
    await setTimeout(VISIBILITY_POLL_MS);
  }
}

async function loadStream<State, Decoded extends { readonly occurredAt: string }>(
  log: EventStore,
  { decode, evolve }: Pick<Aggregate<never, State, Decoded>, 'decode' | 'evolve'>,
  stream: string,
): Promise<LoadedStream<State>> {
  let loaded: LoadedStream<State> = NO_STREAM;
  for await (const recorded of log.readStream(stream)) {
    const event = decode(recorded, loaded.revision === 'no-stream' ? 0 : loaded.revision + 1);
    loaded = {
      state: evolve(loaded.state, event),
      revision: recorded.revision,
      position: recorded.position,
      lastOccurredAt: maxTime(event.occurredAt, loaded.lastOccurredAt),
    };
  }
  return loaded;
}

/** Of two RFC 3339 times in UTC with milliseconds, or ''. */
const maxTime = (a: string, b: string): string => (a > b ? a : b);
