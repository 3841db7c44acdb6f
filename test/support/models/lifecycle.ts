/**
 * Model of a key's life, as simple as possible and without a line of the code under test. The secrets are those that
 * the service issued; the model decides which of them is valid when.
 */
export type Request = { readonly by: string; readonly idempotencyKey?: string | undefined } & (
  | { readonly do: 'create'; readonly repoId: string; readonly expiresAt: string | null }
  | { readonly do: 'rotate'; readonly key: ModelKey; readonly overlapSeconds: number }
  | {
      readonly do: 'update';
      readonly key: ModelKey;
      readonly expiresAt: string | null;
      readonly name: string;
    }
  | { readonly do: 'suspend' | 'resume' | 'delete'; readonly key: ModelKey }
  | { readonly do: 'revoke'; readonly key: ModelKey; readonly secret: string }
);

export type Answer = { readonly id: string; readonly key: string; readonly secret: string };
/** An error code, the same answer as before, an answer with a new secret, or none with a secret. */
export type Outcome = { error: string } | { again: Answer } | 'a new secret' | 'done';

type IssuedAnswer = { request: string; answer: Answer; at: number; suspensions: number };

export type ModelKey = {
  readonly repoId: string;
  readonly answer: Answer;
  name: string;
  current: string;
  old: { secret: string; until: number } | undefined;
  expiresAt: number;
  suspended: boolean;
  suspensions: number;
  deleted: boolean;
  lastAt: number;
  readonly issued: Map<string, IssuedAnswer>;
};

const NEVER = Number.POSITIVE_INFINITY;
const IDEMPOTENCY_WINDOW_MS = 15 * 60_000;
const timeOf = (text: string | null) => (text === null ? NEVER : Date.parse(text));

export class Model {
  readonly keys: ModelKey[] = [];
  /** By repository, caller and Idempotency-Key. */
  readonly #made = new Map<string, ModelKey>();

  /**
   * Outcome that a request must have.
   * @param answer the service's answer, undefined if it gave none
   */
  apply(request: Request, now: number, answer: Answer | undefined): Outcome {
    if (request.do === 'create') return this.#create(request, now, answer);
    const { key } = request;
    if (request.do === 'revoke') {
      if (key.deleted || !isValidSecret(key, request.secret, now)) return 'done';
      key.deleted = true;
      return changed(key, now);
    }
    if (key.deleted) return { error: 'KEY_NOT_FOUND' };
    switch (request.do) {
      case 'delete':
        key.deleted = true;
        return changed(key, now);
      case 'suspend':
        if (key.suspended) return 'done';
        key.suspended = true;
        key.suspensions++;
        return changed(key, now);
      case 'resume':
        if (!key.suspended) return 'done';
        key.suspended = false;
        return changed(key, now);
      case 'update':
        if (timeOf(request.expiresAt) <= now) return { error: 'INVALID_INPUT' };
        if (timeOf(request.expiresAt) === key.expiresAt && request.name === key.name) return 'done';
        key.expiresAt = timeOf(request.expiresAt);
        key.name = request.name;
        return changed(key, now);
      case 'rotate':
        return rotate(key, request, now, answer);
    }
  }

  #create(request: Request & { do: 'create' }, now: number, answer: Answer | undefined): Outcome {
    const { repoId, by, idempotencyKey, expiresAt } = request;
    const scope = JSON.stringify([repoId, by, idempotencyKey]);
    const known = idempotencyKey === undefined ? undefined : this.#made.get(scope);
    const first = known?.issued.get('creation');
    if (known && first) return replayed(known, first, JSON.stringify(expiresAt), now);
    if (timeOf(expiresAt) <= now) return { error: 'INVALID_INPUT' };
    if (!answer) return 'a new secret';
    const key: ModelKey = {
      repoId,
      answer,
      name: 'search',
      current: answer.secret,
      old: undefined,
      expiresAt: timeOf(expiresAt),
      suspended: false,
      suspensions: 0,
      deleted: false,
      lastAt: now,
      issued: new Map(),
    };
    key.issued.set('creation', { request: JSON.stringify(expiresAt), answer, at: now, suspensions: 0 });
    this.keys.push(key);
    if (idempotencyKey !== undefined) this.#made.set(scope, key);
    return 'a new secret';
  }
}

function rotate(
  key: ModelKey,
  { by, idempotencyKey, overlapSeconds }: Request & { do: 'rotate' },
  now: number,
  answer: Answer | undefined,
): Outcome {
  const scope = JSON.stringify([by, idempotencyKey]);
  const first = idempotencyKey === undefined ? undefined : key.issued.get(scope);
  if (first) return replayed(key, first, String(overlapSeconds), now);
  if (!answer) return 'a new secret';
  key.old = overlapSeconds > 0 ? { secret: key.current, until: now + overlapSeconds * 1000 } : undefined;
  key.current = answer.secret;
  changed(key, now);
  const { suspensions, lastAt } = key;
  if (idempotencyKey !== undefined) {
    key.issued.set(scope, { request: String(overlapSeconds), answer, at: lastAt, suspensions });
  }
  return 'a new secret';
}

function replayed(key: ModelKey, first: IssuedAnswer, request: string, now: number): Outcome {
  if (request !== first.request) return { error: 'IDEMPOTENCY_KEY_REUSED' };
  const expiredSince = key.expiresAt > first.at && key.expiresAt <= now;
  const same =
    !key.deleted &&
    !expiredSince &&
    key.current === first.answer.secret &&
    key.suspensions === first.suspensions &&
    Math.abs(now - first.at) <= IDEMPOTENCY_WINDOW_MS;
  return same ? { again: first.answer } : { error: 'IDEMPOTENCY_KEY_USED' };
}

function changed(key: ModelKey, now: number): Outcome {
  key.lastAt = Math.max(key.lastAt, now);
  return 'done';
}

const isValidSecret = ({ current, old }: ModelKey, secret: string, now: number): boolean =>
  secret === current || (secret === old?.secret && now < old.until);

/** Verification result for a credential, by its own key. */
export function verificationResult(key: ModelKey, secret: string, now: number): string {
  if (!isValidSecret(key, secret, now)) return 'BAD_SECRET';
  if (key.deleted) return 'DELETED';
  if (key.suspended) return 'SUSPENDED';
  return key.expiresAt <= now ? 'EXPIRED' : 'valid';
}
