import {
  type AllStreamRecordedEvent,
  type RecordedEvent as EventStoreDbEvent,
  type JSONType,
  jsonEvent,
} from '@eventstore/db-client';
import type { NewEvent, RecordedEvent } from '../event-store.js';
import { hex16, makePosition, type Position, placeIn } from '../position.js';
import { isKeyledgerStream } from '../streams.js';
import { jsonOrText } from './reads.js';

/** The position of an event in the database: two int64. */
export type Place = { readonly commit: bigint; readonly prepare: bigint };

const MAX_PLACE = 2n ** 63n - 1n;

/** An event as the client appends it. */
export const toEventData = ({ id, type, data, metadata }: NewEvent) =>
  jsonEvent({ id, type, data: data as JSONType, metadata: metadata as JSONType });

/** Translates between one log and the database that holds it: positions, names of streams, events. */
export class EventMapping {
  readonly #logId: string;
  readonly #prefix: string;

  /** @param prefix of the names of all streams of this log */
  constructor(logId: string, prefix: string) {
    this.#logId = logId;
    this.#prefix = prefix;
  }

  /** @throws Error the server is older than 22.10, which returns no position */
  position(place: Place | undefined): Position {
    if (!place) throw new Error('EventStoreDB returned no position; 22.10 or later does');
    return makePosition(this.#logId, hex16(place.commit) + hex16(place.prepare));
  }

  /** @throws KeyledgerError OTHER_LOG */
  place(position: Position): Place {
    const place = placeIn(position, this.#logId);
    return { commit: BigInt(`0x${place.slice(0, 16)}`), prepare: BigInt(`0x${place.slice(16) || '0'}`) };
  }

  stream(stream: string): string {
    return this.#prefix + stream;
  }

  isOurs({ streamId }: AllStreamRecordedEvent): boolean {
    return streamId.startsWith(this.#prefix) && isKeyledgerStream(streamId.slice(this.#prefix.length));
  }

  recorded(event: EventStoreDbEvent): RecordedEvent {
    return {
      id: event.id,
      stream: event.streamId.slice(this.#prefix.length),
      revision: Number(event.revision),
      position: this.position(event.position),
      type: event.type,
      data: jsonOrText(event.data),
      metadata: jsonOrText(event.metadata),
      recordedAt: event.created.toISOString(),
    };
  }
}

/** Whether the server can have an event at this position. */
export const isPossible = ({ commit, prepare }: Place): boolean => commit <= MAX_PLACE && prepare <= MAX_PLACE;
