import { closeSync, openSync, writeSync } from 'node:fs';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hashOf } from '../src/security/credentials.js';
import type { FaultKind } from './schedule.js';

export type CallKind =
  | 'create'
  | 'rename'
  | 'rotate'
  | 'suspend'
  | 'resume'
  | 'delete'
  | 'list'
  | 'get'
  | 'verify';

/** What a client asked. */
export type Asked = {
  readonly kind: CallKind;
  readonly repoId: string;
  readonly apiKeyId?: string;
  /** That of a creation or rotation: all calls with it are one intent. */
  readonly idempotencyKey?: string;
  readonly minPosition?: string;
  /** The name that a creation or renaming gives; nobody else gives it. */
  readonly name?: string;
  /** Of a rotation: for so long the secret before stays good. */
  readonly overlapSeconds?: number;
  /** What is verified. */
  readonly key?: string;
  readonly secret?: string;
};

/** What it was answered, as far as it matters. */
export type Answer = {
  readonly status: number;
  /** Of an error. */
  readonly code?: string | undefined;
  /** Where the change is in the log, or as of what was verified. */
  readonly position?: string | undefined;
  /** Seconds. */
  readonly staleness?: number | undefined;
  readonly body: { readonly [field: string]: unknown };
};

/** Does the answer say nothing of what the log holds? The service failed, or never had the whole request. */
export const saysNothing = ({ status }: Answer): boolean => status >= 500 || status === 408;

/** A request with its answer. Times are those of performance.now(). */
export type Call = Asked & {
  /** Its X-Request-Id, which the events that it causes carry. */
  readonly id: string;
  readonly instance: 0 | 1;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Undefined: none came, or not wholly. */
  readonly answer: Answer | undefined;
};

/** A reader of the feed: what it heard in one go, from where on, and with which error that ended. */
export type Reading = {
  readonly reader: string;
  /** Where it began: behind this bookmark, or from the log's first event. */
  readonly after: string | undefined;
  readonly events: readonly { readonly id: string; readonly position: string }[];
  readonly error: string | undefined;
};

/**
 * What happened between two restorations of the log, with all that the log held in the end. What went before is known
 * by the events that were restored.
 */
export type Era = {
  readonly calls: readonly Call[];
  readonly readings: readonly Reading[];
  /** In log order. */
  readonly events: readonly RecordedEvent[];
  /** So many of them were there when it began. */
  readonly restored: number;
};

/** A fault as it was in the end. Times as those of calls. */
export type Inflicted = {
  readonly kind: FaultKind;
  readonly instance: 0 | 1;
  readonly from: number;
  readonly to: number;
};

/** What must never be, in words. */
export type Violation = { readonly check: string; readonly what: string };

/** Every call as a line of JSON in a file, with the hash in place of each secret. */
export class HistoryFile {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'w', 0o600);
  }

  add(facts: object): void {
    writeSync(this.#file, `${JSON.stringify(facts, withoutSecrets)}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

const withoutSecrets = (name: string, value: unknown) =>
  name === 'secret' && typeof value === 'string' ? `sha256 ${hashOf(value)}` : value;
