/** Calls back at the first error of an outage, and again only for an error with another message or after a success. */
export class FailureNotifier {
  readonly #onError: (error: Error) => void;
  #lastMessage: string | undefined;

  constructor(onError: (error: Error) => void) {
    this.#onError = onError;
  }

  failed(error: Error): void {
    if (error.message === this.#lastMessage) return;
    this.#lastMessage = error.message;
    // In a turn of its own: what the callback throws must not end the loop that failed.
    queueMicrotask(() => this.#onError(error));
  }

  succeeded(): void {
    this.#lastMessage = undefined;
  }
}
