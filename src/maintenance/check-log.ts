import { decodeAuditAccess, decodeWebhookEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { classifyStream } from '../event-store/streams.js';
import type { ApiKeyEntry } from '../projections/api-key-entry.js';
import { eventNumber } from '../projections/event-filter.js';
import type { ProjectionStore } from '../projections/local/store.js';
import { evolveWebhookEntry, type WebhookEntry } from '../projections/webhook-entry.js';
import { foldStep } from './fold-key.js';
import { SCRATCH_COMMIT_EVENTS } from './scratch-projections.js';

/** Violation of an invariant of the log. */
export type IntegrityFault = {
  readonly stream: string;
  readonly revision: number;
  readonly position: Position;
  readonly type: string;
  readonly fault: string;
};

export type CheckedLog = {
  readonly events: number;
  readonly faults: number;
  /** Position of the last event; undefined if there is none. */
  readonly position: Position | undefined;
};

export type LogCheck = {
  /** Called with each violation. */
  readonly onViolation: (fault: IntegrityFault) => void;
  /** Called with each event after its checks. */
  readonly onChecked: (event: RecordedEvent) => void;
  /** Called with each event that no release of Keyledger can have written, which is no violation. */
  readonly onForeign: (event: RecordedEvent) => void;
  /** Run when the projections hold exactly the events up to a position; in order of their positions. */
  readonly stops: readonly { readonly position: Position; readonly run: () => Promise<void> }[];
};

/**
 * Folds the whole log into empty projections and checks each event: ids are unique, positions grow, revisions have no
 * gaps, every event decodes, every fold succeeds.
 */
export async function checkLog(
  log: EventStore,
  store: ProjectionStore,
  { onViolation, onChecked, onForeign, stops }: LogCheck,
): Promise<CheckedLog> {
  const waiting = [...stops];
  const ids = new IdCheck();
  let [events, faults] = [0, 0];
  let position: Position | undefined;
  for await (const recorded of log.readAll(undefined, onForeign)) {
    const reportFault = (fault: string | undefined) => {
      if (fault === undefined) return;
      faults++;
      const { stream, revision, type } = recorded;
      onViolation({ stream, revision, position: recorded.position, type, fault });
    };
    ids.add(recorded.id);
    for (let stop = waiting[0]; stop && recorded.position > stop.position; stop = waiting[0]) {
      store.commit();
      await stop.run();
      waiting.shift();
    }
    if (position !== undefined && recorded.position <= position)
      reportFault(`its position does not follow ${position}`);
    reportFault(foldAndValidate(store, recorded));
    if (++events % SCRATCH_COMMIT_EVENTS === 0) store.commit();
    position = recorded.position;
    onChecked(recorded);
  }
  store.commit();
  for (const stop of waiting) await stop.run();
  for await (const repeated of repeatedIds(log, ids.suspects())) {
    faults++;
    const { stream, revision, type, id } = repeated;
    const fault = `its id ${id} is also that of another event`;
    onViolation({ stream, revision, position: repeated.position, type, fault });
  }
  return { events, faults, position };
}

/** Numbers of ids, in 8 bytes each: those of which two are the same are worth a second look. */
class IdCheck {
  #numbers = new Float64Array(1024);
  #length = 0;

  add(id: string): void {
    if (this.#length === this.#numbers.length) {
      const larger = new Float64Array(this.#length * 2);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[this.#length++] = eventNumber(id);
  }

  suspects(): ReadonlySet<number> {
    const sorted = this.#numbers.subarray(0, this.#length).sort();
    return new Set(sorted.filter((number, i) => number === sorted[i - 1]));
  }
}

/** The events whose id an earlier event has. @param suspects the numbers of all such ids, and perhaps of others */
async function* repeatedIds(log: EventStore, suspects: ReadonlySet<number>): AsyncGenerator<RecordedEvent> {
  if (suspects.size === 0) return;
  const seen = new Set<string>();
  for await (const recorded of log.readAll()) {
    if (!suspects.has(eventNumber(recorded.id))) continue;
    if (seen.has(recorded.id)) yield recorded;
    seen.add(recorded.id);
  }
}

/** @returns what is wrong with the event */
function foldAndValidate(store: ProjectionStore, recorded: RecordedEvent): string | undefined {
  const ref = classifyStream(recorded.stream);
  const webhookBefore = ref?.kind === 'webhook' ? store.webhooks.get(ref.id) : undefined;
  const { apiKey, apiKeyBefore } = store.fold(recorded);
  if (apiKey) return validateApiKeyEvent(apiKey, apiKeyBefore, recorded);
  if (ref?.kind === 'webhook') return validateWebhookEvent(webhookBefore, recorded);
  return ref?.kind === 'audit-access' ? validateAuditAccess(recorded) : undefined;
}

function validateApiKeyEvent(
  { key, position }: ApiKeyEntry,
  before: ApiKeyEntry | undefined,
  recorded: RecordedEvent,
): string | undefined {
  const isFolded = position === recorded.position && key.status !== 'unavailable';
  return isFolded ? undefined : foldStep(before, recorded).fault;
}

function validateAuditAccess(recorded: RecordedEvent): string | undefined {
  if (recorded.revision !== 0) return `revision ${recorded.revision} in a stream of one event`;
  const event = decodeAuditAccess(recorded);
  return event.type === 'Unreadable' ? event.reason : undefined;
}

function validateWebhookEvent(before: WebhookEntry | undefined, recorded: RecordedEvent): string | undefined {
  const event = decodeWebhookEvent(recorded, before ? before.revision + 1 : 0);
  if (event.type === 'Unreadable') return event.reason;
  const after = evolveWebhookEntry(before, recorded);
  const breaks = after.webhook.status === 'unavailable' && before?.webhook.status !== 'unavailable';
  return breaks ? `${event.type} is impossible at this point of the stream` : undefined;
}
