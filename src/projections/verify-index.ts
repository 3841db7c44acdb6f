import { type AiApiKey, evolve } from '../domain/ai-api-key.js';
import { decode } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Position } from '../event-store/position.js';
import { isAccessKey, isSecret, matches } from '../security/credentials.js';

/** A key as the index knows it: never its sealed secret, which only a repeated creation needs. */
export type KeyEntry = {
  readonly key: AiApiKey;
  readonly revision: number;
  readonly createdPosition: Position;
  /** Of the key's last event. */
  readonly position: Position;
};

/**
 * The fold: a key's entry after one more event of its stream. An event that the entry already holds
 * changes nothing.
 * @throws UnattributableError see decode
 */
export function evolveEntry(entry: KeyEntry | undefined, recorded: RecordedEvent): KeyEntry {
  if (entry && recorded.revision <= entry.revision) return entry;
  const event = decode(recorded, entry ? entry.revision + 1 : 0);
  return {
    key: { ...evolve(entry?.key, event), sealedSecret: '', idempotency: undefined },
    revision: recorded.revision,
    createdPosition: entry?.createdPosition ?? recorded.position,
    position: recorded.position,
  };
}

export type Verdict =
  | { readonly valid: true; readonly key: AiApiKey }
  | {
      readonly valid: false;
      readonly reason: 'MALFORMED' | 'UNKNOWN' | 'BAD_SECRET' | 'UNAVAILABLE' | 'DELETED';
    };

/** Every key of the log, in memory: decides whether a credential is good. */
export class VerifyIndex {
  readonly #entries = new Map<string, KeyEntry>();
  readonly #byAccessKey = new Map<string, string>();
  #quarantined = 0;

  /** Folds one event in. @returns the key's entry after it */
  apply(recorded: RecordedEvent): KeyEntry {
    const before = this.#entries.get(recorded.stream);
    const entry = evolveEntry(before, recorded);
    this.#entries.set(recorded.stream, entry);
    if (!before) this.#byAccessKey.set(entry.key.accessKey, recorded.stream);
    this.#quarantined += Number(isQuarantined(entry)) - Number(isQuarantined(before));
    return entry;
  }

  /** Is this credential good, as far as the events that the index has seen? */
  verify(accessKey: string, secret: string): Verdict {
    if (!isAccessKey(accessKey) || !isSecret(secret)) return { valid: false, reason: 'MALFORMED' };
    const key = this.#entries.get(this.#byAccessKey.get(accessKey) ?? '')?.key;
    if (!key) return { valid: false, reason: 'UNKNOWN' };
    if (!matches(secret, key.secretHash)) return { valid: false, reason: 'BAD_SECRET' };
    if (key.status === 'unavailable') return { valid: false, reason: 'UNAVAILABLE' };
    if (key.status === 'deleted') return { valid: false, reason: 'DELETED' };
    return { valid: true, key };
  }

  entries(): Iterable<KeyEntry> {
    return this.#entries.values();
  }

  /** How many keys have a history that could not be decoded or folded. */
  get quarantined(): number {
    return this.#quarantined;
  }
}

const isQuarantined = (entry: KeyEntry | undefined): boolean => entry?.key.status === 'unavailable';
