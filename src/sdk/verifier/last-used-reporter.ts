import { FailureNotifier } from './failure-notifier.js';

/** Interval of reports, and so the maximum loss when the process is killed (milliseconds). */
const REPORT_INTERVAL_MS = 60_000;
/** Maximum keys in one request: the service limits bodies to 16 KiB. */
const BATCH_SIZE = 200;
/** Timeout of the last report, when the verifier closes (milliseconds). */
const CLOSE_TIMEOUT_MS = 2000;

/** @property at RFC 3339, UTC */
export type LastUse = { readonly id: string; readonly at: string };

/**
 * Sends one batch.
 * @throws the service did not accept the batch
 */
export type SendLastUses = (keys: readonly LastUse[], signal: AbortSignal) => Promise<void>;

/**
 * Reports to the service when keys were last used, each at most once a minute. What the service does not accept waits
 * for the next report; each key waits once, with its latest use, which bounds memory in an outage.
 */
export class LastUsedReporter {
  readonly #send: SendLastUses;
  readonly #failures: FailureNotifier;
  readonly #timer: NodeJS.Timeout;
  readonly #stop = new AbortController();
  /** Epoch milliseconds by key id. */
  readonly #unreported = new Map<string, number>();
  #reporting: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(send: SendLastUses, onError: (error: Error) => void, intervalMs = REPORT_INTERVAL_MS) {
    this.#send = send;
    this.#failures = new FailureNotifier(onError);
    this.#timer = setInterval(() => void this.#report(), intervalMs).unref();
  }

  /** @param at epoch milliseconds */
  record(apiKeyId: string, at: number): void {
    this.#unreported.set(apiKeyId, at);
  }

  /** Reports the rest. Settles when the service has accepted or refused it, or has not answered within two seconds. */
  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  async #finish(): Promise<void> {
    clearInterval(this.#timer);
    const timeout = setTimeout(() => this.#stop.abort(new Error('The verifier is closed')), CLOSE_TIMEOUT_MS);
    await this.#reporting;
    await this.#report();
    clearTimeout(timeout);
  }

  /** Only one report runs at a time, even if it takes longer than the interval. */
  #report(): Promise<void> {
    this.#reporting ??= this.#reportAll().finally(() => {
      this.#reporting = undefined;
    });
    return this.#reporting;
  }

  async #reportAll(): Promise<void> {
    const uses = [...this.#unreported];
    try {
      for (let from = 0; from < uses.length; from += BATCH_SIZE) {
        const batch = uses.slice(from, from + BATCH_SIZE);
        const keys = batch.map(([id, at]) => ({ id, at: new Date(at).toISOString() }));
        await this.#send(keys, this.#stop.signal);
        for (const [id, at] of batch) if (this.#unreported.get(id) === at) this.#unreported.delete(id);
        this.#failures.succeeded();
      }
    } catch (cause) {
      const message = `Last uses of keys were not reported: ${(cause as Error).message}`;
      this.#failures.failed(new Error(message, { cause }));
    }
  }
}
