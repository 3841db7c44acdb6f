import type { ApiKeyHistory, AuditPage } from './audit-types.js';
import type { KeyledgerEvent } from './event-types.js';

export type AiType = 'OPENAI' | 'GOOGLE' | 'ANTHROPIC' | 'AWS' | 'OTHER';

/** `unavailable`: a part of its history cannot be read; it is never valid, but can be deleted. */
export type ApiKeyStatus = 'active' | 'suspended' | 'expired' | 'deleted' | 'unavailable';

export type ClientOptions = {
  /** Where the service is, such as `https://keys.example`; it may have a path. */
  readonly baseUrl: string;
  /**
   * A bearer token, or what gives one: it is asked before every try, so that no try goes out with a
   * token that has expired meanwhile. All tokens of a client must be of one issuer and subject: to the
   * service the same Idempotency-Key of another caller is another one. What it throws ends the call.
   */
  readonly token: string | (() => string | Promise<string>);
  /** Tries of a call, the first one included, from 1 on. Default: 4 */
  readonly attempts?: number | undefined;
  /** Limit of one try, the token and the whole answer included (milliseconds). Default: 10 000 */
  readonly timeoutMs?: number | undefined;
};

export type CallOptions = {
  /** Ends the call at once, while it waits for its next try too; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
};

export type CreateOptions = CallOptions & {
  /**
   * 1 to 255 printable ASCII characters. All calls with it create one API key, in this process or
   * another, and for 15 minutes get the same answer. Made anew for each call if there is none.
   */
  readonly idempotencyKey?: string | undefined;
};

export type RotateOptions = CallOptions & {
  /** As for a creation: all calls with it rotate an API key once. */
  readonly idempotencyKey?: string | undefined;
};

export type ReadOptions = CallOptions & {
  /** The `position` of a change that the answer must hold. */
  readonly minPosition?: string | undefined;
};

export type GetOptions = ReadOptions & {
  /** Deleted API keys, too. */
  readonly include?: 'deleted' | undefined;
  /** What was so then: RFC 3339, a Date, or the position of a change. For tokens of an auditor. */
  readonly asOf?: string | Date | undefined;
};

export type ListOptions = GetOptions & {
  readonly status?: ApiKeyStatus | undefined;
  readonly aiType?: AiType | undefined;
  /** 1 to 1000 API keys. Without it all of them are in one answer. */
  readonly limit?: number | undefined;
  /** The `nextCursor` of the page before; null, as nothing: from the newest on. */
  readonly cursor?: string | null | undefined;
};

export type AuditOptions = CallOptions & {
  /** What occurred then (RFC 3339, or a Date) or later, or comes behind this position. */
  readonly from?: string | Date | undefined;
  /** What occurred then or before, or comes up to and with this position. */
  readonly to?: string | Date | undefined;
  readonly types?: readonly string[] | undefined;
  /** Subject of who did it. */
  readonly actor?: string | undefined;
  readonly apikeyId?: string | undefined;
  /** 1 to 1000; 100 without it. */
  readonly limit?: number | undefined;
  /** The `nextCursor` of the page before; null, as nothing: from the newest on. */
  readonly cursor?: string | null | undefined;
};

export type EventsOptions = CallOptions & {
  /** The `position` of an event, to go on right behind it; `start`: from the first event on. Without it: from now on. */
  readonly after?: string | 'start' | undefined;
  /** Of this repository only. */
  readonly repo?: string | undefined;
  /** Of these types only; without it all but AuditAccessed, which reading the audit causes. */
  readonly types?: readonly string[] | undefined;
};

/** Where the change is in the log, for `minPosition`; null if the service did not say. */
export type Positioned = { readonly position: string | null };

export type NewApiKey = {
  readonly name: string;
  readonly aiType: AiType;
  /** RFC 3339, or a Date; null, as nothing: it does not expire. */
  readonly expiresAt?: string | Date | null | undefined;
};

/** What stays undefined is not changed. */
export type ApiKeyChange = {
  readonly name?: string | undefined;
  /** RFC 3339, or a Date; null takes the expiry away. */
  readonly expiresAt?: string | Date | null | undefined;
};

export type Credential = {
  /** Access key, FB_AI_… */
  readonly key: string;
  /** secret_… */
  readonly secret: string;
};

export type CreatedApiKey = Positioned & {
  readonly success: true;
  readonly id: string;
  /** Access key, FB_AI_… */
  readonly key: string;
  /** secret_…; it is never shown again. */
  readonly secret: string;
};

/** With the new secret. */
export type RotatedApiKey = CreatedApiKey;

export type ApiKey = {
  readonly id: string;
  readonly name: string;
  readonly repoId: string;
  readonly key: string;
  readonly aiType: AiType;
  /** RFC 3339, UTC, as are the other times. */
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly expiresAt: string | null;
  /** The minute of its last use; absent while none is known, and with `asOf`. */
  readonly lastUsedAt?: string;
  readonly status: ApiKeyStatus;
  /** With `asOf`: where in the log the event is that made it so, and its id. */
  readonly position?: string;
  readonly eventId?: string;
};

/** Newest first. */
export type ApiKeyList = {
  readonly success: true;
  readonly apiKeys: readonly ApiKey[];
  /** Only with a limit: where the next page begins, null on the last page. */
  readonly nextCursor?: string | null;
};

export type FoundApiKey = { readonly success: true; readonly apiKey: ApiKey };

export type Acknowledged = { readonly success: true; readonly message: string };

export type Done = Positioned & Acknowledged;

/** What a credential must be good for, if it matters. */
export type Requirement = { readonly repoId?: string | undefined; readonly aiType?: AiType | undefined };

export type InvalidReason =
  | 'MALFORMED'
  | 'UNKNOWN'
  | 'BAD_SECRET'
  | 'UNAVAILABLE'
  | 'DELETED'
  | 'SUSPENDED'
  | 'EXPIRED'
  | 'WRONG_REPO'
  | 'WRONG_AI_TYPE';

export type VerificationOutcome = (
  | {
      readonly success: true;
      readonly valid: true;
      readonly apiKey: Pick<ApiKey, 'id' | 'repoId' | 'name' | 'aiType' | 'expiresAt'>;
      /** Where in the log the service was when it found so. */
      readonly position: string;
    }
  | { readonly success: true; readonly valid: false; readonly reason: InvalidReason }
) & {
  /** How old what the service knew may be (seconds); null if it did not say. */
  readonly staleness: number | null;
};

/**
 * Every call rejects with a KeyledgerClientError, with the reason of its signal, with what the token
 * function threw, or with a TypeError or RangeError for what cannot be sent at all.
 */
export type Client = {
  createRepoAiApiKey(repoId: string, key: NewApiKey, options?: CreateOptions): Promise<CreatedApiKey>;

  getRepoAiApiKeys(repoId: string, options?: ListOptions): Promise<ApiKeyList>;

  getRepoAiApiKey(repoId: string, apikeyId: string, options?: GetOptions): Promise<FoundApiKey>;

  /** Renames, or changes when it expires. */
  updateRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    change: ApiKeyChange,
    options?: CallOptions,
  ): Promise<Done>;

  /**
   * Deletes for good. A 404 after a try whose answer was lost may mean that this try deleted it, or
   * that there never was such an API key in this repository: the client does not guess, and rejects.
   */
  deleteRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;

  /** Gives the API key a new secret. The one that it replaces stays good for the overlap (seconds). */
  rotateRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    rotation?: { readonly overlapSeconds?: number | undefined },
    options?: RotateOptions,
  ): Promise<RotatedApiKey>;

  /** The API key is not valid until it is resumed. */
  suspendRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    suspension?: { readonly reason?: string | undefined },
    options?: CallOptions,
  ): Promise<Done>;

  resumeRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;

  /** Every event of an API key, also after its deletion. */
  getRepoAiApiKeyHistory(repoId: string, apikeyId: string, options?: CallOptions): Promise<ApiKeyHistory>;

  /** The events of a repository, with who looked at them. */
  getRepoAiAudit(repoId: string, options?: AuditOptions): Promise<AuditPage>;

  /** A credential that is not valid is an answer and no error. */
  verifyApiKey(credential: Credential & Requirement, options?: ReadOptions): Promise<VerificationOutcome>;

  /**
   * For whoever found a credential: revokes its API key. The client's token is neither asked for nor
   * sent, and the answer does not tell whether the credential was good.
   */
  revokeLeakedApiKey(credential: Credential, options?: CallOptions): Promise<Acknowledged>;

  /**
   * Every event of the caller's repositories, without end: for the loop of a subscriber. It connects when it is first
   * asked for an event, connects again by itself as often and as long as it must, and hands each event over once and in
   * order. It reads on only as fast as the loop takes.
   *
   * Nothing that passes ends it: no network, no restart of the service, no token that expires. It throws the
   * KeyledgerClientError of what does not pass: a token that is refused, a repository that may not be followed, a
   * position of another log, or of an event that a log lost when it was restored (OTHER_LOG). To go on in another process keep the `position` of the last event that was
   * dealt with.
   */
  events(options?: EventsOptions): AsyncIterableIterator<KeyledgerEvent>;
};
