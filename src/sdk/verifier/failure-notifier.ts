/**
 * Calls back at the first error of an outage, and again only for an error that says something new, or after a success.
 * What the callback throws is ignored: it must end neither the loop that failed nor the gateway.
 */
export class FailureNotifier {
  readonly #onError: (error: Error) => void;
  readonly #reported = new Set<string>();

  constructor(onError: (error: Error) => void) {
    this.#onError = onError;
  }

  failed(error: Error): void {
    if (this.#reported.has(error.message)) return;
    this.#reported.add(error.message);
    try {
      this.#onError(error);
    } catch {
      // Said above.
    }
  }

  succeeded(): void {
    this.#reported.clear();
  }
}
