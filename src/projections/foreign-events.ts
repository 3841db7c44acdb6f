import type { BaseLogger } from 'pino';
import type { RecordedEvent } from '../event-store/event-store.js';

const FOREIGN_EVENTS =
  'Skipping foreign events in streams whose names begin like those of Keyledger. keyledger audit verify lists them; EVENT_STORE_PREFIX keeps services apart';

/** Counts foreign events, see classifyStream, and logs the first. */
export class ForeignEvents {
  readonly #logger: BaseLogger;
  #skipped = 0;

  constructor(logger: BaseLogger) {
    this.#logger = logger;
  }

  get skipped(): number {
    return this.#skipped;
  }

  skip(events: readonly RecordedEvent[]): void {
    const [first] = events;
    if (!first) return;
    if (this.#skipped === 0) {
      const { stream, type, position } = first;
      this.#logger.warn({ stream, type, position }, FOREIGN_EVENTS);
    }
    this.#skipped += events.length;
  }
}
