import { setTimeout } from 'node:timers/promises';
import { EVENT_TYPES } from '../src/event-store/event-schemas.js';
import { createClient, KeyledgerClientError } from '../src/sdk/client/index.js';
import type { Reading } from './history.js';

const PAUSE_MS = 200;
/** AuditAccessed too, which a reader gets only by name. */
const EVERY_TYPE = EVENT_TYPES;

/** A reader of the feed by the client that everybody uses: it goes on behind what it has heard. */
export class Subscriber {
  readonly #client;
  readonly #reader: string;
  readonly #done: (reading: Reading) => void;
  #after: string | undefined;
  #events: { readonly id: string; readonly position: string }[] = [];
  #stopping = new AbortController();
  #stopped: Promise<void> = Promise.resolve();

  /** @param done told of each reading that has ended */
  constructor(reader: string, url: string, token: string, done: (reading: Reading) => void) {
    this.#reader = reader;
    this.#client = createClient({ baseUrl: url, token });
    this.#done = done;
  }

  /** The id of the last event that it has heard in this reading. */
  get latest(): string | undefined {
    return this.#events.at(-1)?.id;
  }

  /** Begins where it ended, at first with the log's first event. */
  start(): void {
    this.#stopping = new AbortController();
    this.#stopped = this.#readOn(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#stopped;
  }

  /** Whoever is refused begins anew. */
  async #readOn(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#events = [];
      const after = this.#after;
      const error = await this.#read(signal);
      this.#done({ reader: this.#reader, after, events: this.#events, error });
      this.#after = error ? undefined : (this.#events.at(-1)?.position ?? after);
      if (error) await setTimeout(PAUSE_MS);
    }
  }

  /** @returns the code of what it was refused with */
  async #read(signal: AbortSignal): Promise<string | undefined> {
    try {
      const options = { after: this.#after ?? 'start', types: EVERY_TYPE, signal };
      for await (const { id, position } of this.#client.events(options)) {
        this.#events.push({ id, position });
      }
    } catch (error) {
      if (!signal.aborted) return error instanceof KeyledgerClientError ? error.code : String(error);
    }
    return undefined;
  }
}
