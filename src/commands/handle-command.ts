import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import type { Actor } from '../domain/access.js';
import { type ApiKeyCommand, evolve, type State, streamOf } from '../domain/ai-api-key.js';
import { decide } from '../domain/decide.js';
import { KeyledgerError } from '../domain/errors.js';
import { decode, encode } from '../event-store/codec.js';
import type { EventStore, Expected } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { turnstile } from './in-turn.js';

export type AppendOutcome = 'appended' | 'conflict';

/** Who asked, under which request id, and the clock (milliseconds since 1970). */
export type CommandContext = {
  readonly log: EventStore;
  readonly onAppend?: (outcome: AppendOutcome) => void;
  readonly clock: () => number;
  readonly actor: Actor;
  readonly requestId: string;
};

/** What became of a command: the key's state before it, what it changed, the position of the key's last event. */
export type Handled = { readonly before: State; readonly changed: boolean; readonly position: Position };

/** Other processes may win that many races for one key. */
const MAX_ATTEMPTS = 10;
/** A command whose turn comes later than this is not begun: behind a log that does not answer, all fail together. */
const LONGEST_WAIT_MS = 3500;
const inTurn = turnstile();

/**
 * Load, decide, append; on a conflict load again and decide anew. Commands append nowhere else.
 * @param commandFor the command, given the state that it is decided on
 * @param load 'assume empty' decides on no state first: for streams that can hardly exist already
 * @throws KeyledgerError what decide and append throw, and CONFLICT after ten lost races
 */
export function handleCommand(
  context: CommandContext,
  apiKeyId: string,
  commandFor: (state: State) => ApiKeyCommand,
  load: 'load' | 'assume empty' = 'load',
): Promise<Handled> {
  const stream = streamOf(apiKeyId);
  const asked = performance.now();
  return inTurn(context.log.logId + stream, () => {
    if (performance.now() - asked > LONGEST_WAIT_MS) throw new KeyledgerError('UNAVAILABLE');
    return handle(context, commandFor, stream, load);
  });
}

async function handle(
  { log, clock, actor, requestId, onAppend }: CommandContext,
  commandFor: (state: State) => ApiKeyCommand,
  stream: string,
  load: 'load' | 'assume empty',
): Promise<Handled> {
  const commandId = uuidV4();
  const cause = { actor, requestId, commandId };
  let history = load === 'load' ? await readHistory(log, stream) : EMPTY;
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    const now = new Date(clock()).toISOString();
    const decided = decide(commandFor(history.state), history.state, now);
    if (decided.length === 0 && history.position) {
      return { before: history.state, changed: false, position: history.position };
    }
    const occurredAt = later(now, history.lastOccurredAt);
    const events = decided.map((event, i) => encode(event, uuidV5(String(i), commandId), occurredAt, cause));
    const result = await log.append(stream, events, history.revision);
    onAppend?.(result.appended ? 'appended' : 'conflict');
    if (result.appended) return { before: history.state, changed: true, position: result.position };
    history = await readHistory(log, stream);
  }
  throw new KeyledgerError('CONFLICT');
}

type History = {
  readonly state: State;
  readonly revision: Expected;
  readonly position?: Position;
  readonly lastOccurredAt: string;
};

const EMPTY: History = { state: undefined, revision: 'none', lastOccurredAt: '' };

async function readHistory(log: EventStore, stream: string): Promise<History> {
  let history = EMPTY;
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
