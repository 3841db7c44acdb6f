import { setTimeout as pause } from 'node:timers/promises';

const HEARTBEAT_INTERVAL_MS = 2000;

/**
 * Distinguishes a quiet log from a frozen server, which gRPC's own keepalive takes 20 s to detect: probes the server
 * while a subscription listens, and notifies all listeners if a probe fails.
 */
export class Heartbeat {
  readonly #probe: () => Promise<void>;
  readonly #listeners = new Set<(error: Error) => void>();
  #beating = false;

  /** @param probe rejects if the server does not answer */
  constructor(probe: () => Promise<void>) {
    this.#probe = probe;
  }

  /** @returns a function that stops listening */
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
