import { setTimeout as pause } from 'node:timers/promises';

/** So long a server may be silent before it is asked, in milliseconds. */
const HEARTBEAT_INTERVAL_MS = 2000;

/**
 * A subscription that brings nothing may be one to a quiet log or to a frozen server: grpc's own
 * keepalive tells after 20 s. While anybody listens, this asks the server, and tells all of them
 * when it does not answer.
 */
export class Heartbeat {
  readonly #probe: () => Promise<void>;
  readonly #listeners = new Set<(error: Error) => void>();
  #beating = false;

  /** @param ask rejects if the server does not answer */
  constructor(probe: () => Promise<void>) {
    this.#probe = probe;
  }

  /** @returns ends the listening */
  listen(onSilence: (error: Error) => void): () => void {
    this.#listeners.add(onSilence);
    if (!this.#beating) void this.#beat();
    return () => this.#listeners.delete(onSilence);
  }

  async #beat(): Promise<void> {
    this.#beating = true;
    while (this.#listeners.size > 0) {
      await this.#probe().catch((error: Error) => {
        for (const notify of this.#listeners) notify(error);
      });
      await pause(HEARTBEAT_INTERVAL_MS, undefined, { ref: false });
    }
    this.#beating = false;
  }
}
