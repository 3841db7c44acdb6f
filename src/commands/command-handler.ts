import { setTimeout } from 'node:timers/promises';
import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { Occurred } from '../domain/ai-api-key.js';
import type { Actor } from '../domain/authorization.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { ImportOrigin } from '../domain/webhook.js';
import { encode } from '../event-store/codec.js';
import type { DomainEvent } from '../event-store/event-schemas.js';
import type { EventStore, ExpectedRevision, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { keyedMutex } from './keyed-mutex.js';

export type AppendOutcome = 'appended' | 'conflict';

/** What every command needs: the log, the clock, the actor and the id of the request. */
export type CommandContext = {
  readonly log: EventStore;
  readonly onAppend?: (outcome: AppendOutcome) => void;
  readonly clock: () => EpochMs;
  readonly actor: Actor;
  readonly requestId: string;
};

/** How one kind of stream is named, decoded and folded, and how its commands are decided. */
export type Aggregate<Command, State, Event extends DomainEvent, Decoded extends { readonly occurredAt: string }> = {
  readonly stream: (id: string) => string;
  readonly decode: (recorded: RecordedEvent, revision: number) => Decoded;
  readonly evolve: (state: State | undefined, event: Decoded | (Occurred<Event> & ImportOrigin)) => State;
  readonly decide: (command: Command, state: State | undefined, now: string) => Event[];
};

/** The state after a command, and the position of the stream's last event. Unchanged: the command caused no event. */
export type CommandResult<State = unknown> = {
  readonly outcome: 'appended' | 'unchanged';
  readonly state: State;
  readonly position: Position;
};

/** Attempts of a command. A lost race against another process costs one, and so does a wrong `isNew`. */
const MAX_ATTEMPTS = 10;
/** A command that queued longer is not started: while the log hangs, all fail together. */
const QUEUE_TIMEOUT_MS = 3500;
/** How long, and how often, the handler reloads a stream to see the event that an append conflicted with. */
const VISIBILITY_TIMEOUT_MS = 300;
const VISIBILITY_POLL_MS = 10;
const runExclusive = keyedMutex();

/**
 * Makes the handler of an aggregate's commands: load, decide, append; after a conflict load and decide again. Only this
 * handler and the import of a log append events of keys and webhooks.
 * @returns handles a command, or one that is built from the state that it is decided on. `isNew`: the stream probably
 * does not exist, so decide before loading it
 * @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races
 */
export function commandHandler<
  Command extends object,
  State,
  Event extends DomainEvent,
  Decoded extends { readonly occurredAt: string },
>({ stream: streamOf, decode, evolve, decide }: Aggregate<Command, State, Event, Decoded>) {
  type Build = (state: State | undefined) => Command;
  type Loaded = {
    readonly state: State | undefined;
    readonly revision: ExpectedRevision;
    readonly position?: Position;
    readonly lastOccurredAt: string;
  };
  const NO_STREAM: Loaded = { state: undefined, revision: 'no-stream', lastOccurredAt: '' };

  return function handle(
    context: CommandContext,
    id: string,
    command: Command | Build,
    { isNew = false }: { readonly isNew?: boolean } = {},
  ): Promise<CommandResult<State>> {
    const stream = streamOf(id);
    const build = typeof command === 'function' ? command : () => command;
    const queuedAt = performance.now();
    return runExclusive(context.log.logId + stream, () => {
      if (performance.now() - queuedAt > QUEUE_TIMEOUT_MS) throw new KeyledgerError('UNAVAILABLE');
      return execute(context, stream, build, isNew);
    });
  };

  async function execute(
    { log, clock, actor, requestId, onAppend }: CommandContext,
    stream: string,
    build: Build,
    isNew: boolean,
  ): Promise<CommandResult<State>> {
    const causation = { actor, requestId, commandId: uuidV4() };
    let loaded = isNew ? NO_STREAM : await load(log, stream);
    for (let attempt = 1, assumed = isNew; attempt <= MAX_ATTEMPTS; attempt++, assumed = false) {
      const now = new Date(clock()).toISOString();
      const { state, position, revision } = loaded;
      let decided: Event[];
      try {
        decided = decide(build(state), state, now);
      } catch (error) {
        // A command that a new stream rejects may repeat one that the existing stream accepted.
        if (!assumed) throw error;
        loaded = await load(log, stream);
        continue;
      }
      if (decided.length === 0) {
        // Only RevokeLeakedAiApiKey decides nothing without a state: the index held a key that the log does not.
        if (state === undefined || position === undefined) throw new KeyledgerError('UNAVAILABLE');
        return { outcome: 'unchanged', state, position };
      }
      const made = { occurredAt: maxTime(now, loaded.lastOccurredAt), imported: false };
      const events = decided.map((event, i) =>
        encode(event, uuidV5(String(i), causation.commandId), made.occurredAt, causation),
      );
      const result = await log.append(stream, events, revision);
      onAppend?.(result.appended ? 'appended' : 'conflict');
      if (result.appended) {
        const fold = (before: State | undefined, event: Event) => evolve(before, { ...event, ...made });
        return {
          outcome: 'appended',
          state: decided.reduce(fold, state) as State,
          position: result.position,
        };
      }
      loaded = await reloadUntilVisible(log, stream, result.actualRevision);
    }
    throw new KeyledgerError('CONFLICT');
  }

  /** EventStoreDB may refuse an append because of an event that readers see only a little later: waits for it. */
  async function reloadUntilVisible(log: EventStore, stream: string, actual: ExpectedRevision): Promise<Loaded> {
    const giveUpAt = performance.now() + VISIBILITY_TIMEOUT_MS;
    for (;;) {
      const loaded = await load(log, stream);
      const isVisible = actual === 'no-stream' || (loaded.revision !== 'no-stream' && loaded.revision >= actual);
      if (isVisible || performance.now() > giveUpAt) return loaded;
      await setTimeout(VISIBILITY_POLL_MS);
    }
  }

  async function load(log: EventStore, stream: string): Promise<Loaded> {
    let loaded = NO_STREAM;
    for await (const recorded of log.readStream(stream)) {
      const { revision, position } = recorded;
      const event = decode(recorded, loaded.revision === 'no-stream' ? 0 : loaded.revision + 1);
      const state = evolve(loaded.state, event);
      loaded = {
        state,
        revision,
        position,
        lastOccurredAt: maxTime(event.occurredAt, loaded.lastOccurredAt),
      };
    }
    return loaded;
  }
}

/** The later of two RFC 3339 times in UTC with milliseconds, or of one and ''. */
const maxTime = (a: string, b: string): string => (a > b ? a : b);
