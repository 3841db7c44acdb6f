/**
 * Reports the first error of an outage, and another one only if its message is new, or after a success. Ignores errors
 * of the callback: they must end neither the failing loop nor the gateway.
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
      // Errors of the callback are ignored.
    }
  }

  succeeded(): void {
    this.#reported.clear();
  }
}
