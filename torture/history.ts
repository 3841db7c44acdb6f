import { closeSync, openSync, writeSync } from 'node:fs';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { hashOf } from '../src/security/credentials.js';
import type { FaultKind } from './schedule.js';

export type CallKind = 'create' | 'rename' | 'rotate' | 'suspend' | 'resume' | 'delete' | 'list' | 'get' | 'verify';

/** Request of a client. */
export type Asked = {
  readonly kind: CallKind;
  readonly repoId: string;
  readonly apiKeyId?: string;
  /** Idempotency-Key of a creation or rotation: all calls with it are one intent. */
  readonly idempotencyKey?: string;
  readonly minPosition?: string;
  /** Name that a creation or renaming sets; no other call sets it. */
  readonly name?: string;
  /** For a rotation: seconds for which the previous secret stays valid. */
  readonly overlapSeconds?: number;
  /** Credential to verify. */
  readonly key?: string;
  readonly secret?: string;
};

/** The parts of an answer that the checks use. */
export type Answer = {
  readonly status: number;
  /** Error code. */
  readonly code?: string | undefined;
  /** Position of the change, or the one as of which the verification holds. */
  readonly position?: string | undefined;
  /** Seconds. */
  readonly staleness?: number | undefined;
  readonly body: { readonly [field: string]: unknown };
};

/** Whether the answer says nothing of what the log holds: the service failed, or never had the complete request. */
export const saysNothing = ({ status }: Answer): boolean => status >= 500 || status === 408;

/** Request with its answer. Times are those of performance.now(). */
export type Call = Asked & {
  /** X-Request-Id, which the events that the call causes carry. */
  readonly id: string;
  readonly instance: 0 | 1;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Undefined: no complete answer arrived. */
  readonly answer: Answer | undefined;
};

/** Events that a reader of the feed received in one connection, where it started, and the error that ended it. */
export type Reading = {
  readonly reader: string;
  /** Resume token after which it started; undefined: at the log's first event. */
  readonly after: string | undefined;
  readonly events: readonly { readonly id: string; readonly position: string }[];
  readonly error: string | undefined;
};

/**
 * Calls and readings between two restorations of the log, with all that the log held in the end. The restored events
 * stand for what happened before.
 */
export type Era = {
  readonly calls: readonly Call[];
  readonly readings: readonly Reading[];
  /** In log order. */
  readonly events: readonly RecordedEvent[];
  /** Number of events that existed when the era began. */
  readonly restored: number;
};

/** A fault that has ended. Times are those of performance.now(). */
export type Inflicted = {
  readonly kind: FaultKind;
  readonly instance: 0 | 1;
  readonly from: number;
  readonly to: number;
};

/** Description of something that must never happen. */
export type Violation = { readonly check: string; readonly what: string };

/** File with every call as a line of JSON, with the hash in place of each secret. */
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
