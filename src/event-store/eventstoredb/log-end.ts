import { type AllStreamRecordedEvent, BACKWARDS, END } from '@eventstore/db-client';
import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../position.js';
import type { Connection } from './connection.js';
import type { EventMapping, Place } from './event-mapping.js';
import { readWithTimeout } from './reads.js';
import { CALL_TIMEOUT_MS } from './retry.js';

/** Events that the first read of a search asks for, and the most that a later one does. */
const SCAN = { first: 16, longest: 4096 };

/**
 * Finds the last event of the log in a database that may also hold foreign events: the position at which a subscription
 * to the log is caught up.
 */
export class LogEnd {
  readonly #connection: Connection;
  readonly #mapping: EventMapping;
  /** How far the database was searched, and the last event of the log up to there. */
  #searched: { readonly to: Position; readonly last: Position };

  /** @param start where the log was created */
  constructor(connection: Connection, mapping: EventMapping, start: Position) {
    this.#connection = connection;
    this.#mapping = mapping;
    this.#searched = { to: start, last: start };
  }

  /** @throws KeyledgerError UNAVAILABLE */
  async find(): Promise<Position> {
    const before = this.#searched;
    let searchedTo: Position | undefined;
    const found = (last: Position) => {
      if (searchedTo && searchedTo > this.#searched.to) this.#searched = { to: searchedTo, last };
      return last;
    };
    let from: Place | typeof END = END;
    for (let maxCount = SCAN.first; ; maxCount = Math.min(maxCount * 8, SCAN.longest)) {
      const start: Place | typeof END = from;
      for (const event of await this.#readBackwards(from, maxCount)) {
        const here = this.#mapping.position(event.position);
        searchedTo ??= here;
        if (this.#mapping.isOurs(event)) return found(here);
        if (here <= before.to) return found(before.last);
        from = event.position;
      }
      if (from === start) return found(before.last);
    }
  }

  async #readBackwards(fromPosition: Place | typeof END, maxCount: number): Promise<AllStreamRecordedEvent[]> {
    const { client, credentials } = this.#connection;
    const read = client.readAll({ direction: BACKWARDS, fromPosition, maxCount, ...credentials });
    const events: AllStreamRecordedEvent[] = [];
    try {
      for await (const { event } of readWithTimeout(read, CALL_TIMEOUT_MS)) if (event) events.push(event);
    } catch (cause) {
      throw new KeyledgerError('UNAVAILABLE', { cause });
    }
    return events;
  }
}
