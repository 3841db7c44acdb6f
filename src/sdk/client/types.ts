import type { ApiKeyHistory, AuditPage } from './audit-types.js';
import type { KeyledgerEvent } from './event-types.js';
import type {
  AiType,
  ApiKeyStatus,
  AuditOptions,
  CallOptions,
  CreateOptions,
  EventsOptions,
  GetOptions,
  ListOptions,
  ReadOptions,
  RotateOptions,
} from './options.js';

/** Position of the change in the log, for `minPosition`; null if the service did not send it. */
export type Positioned = { readonly position: string | null };

export type NewApiKey = {
  readonly name: string;
  readonly aiType: AiType;
  /** RFC 3339, or a Date; null or undefined: never expires. */
  readonly expiresAt?: string | Date | null | undefined;
};

/** Undefined members stay unchanged. */
export type ApiKeyChange = {
  readonly name?: string | undefined;
  /** RFC 3339, or a Date; null removes the expiry. */
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
  /** secret_…; the service never shows it again. */
  readonly secret: string;
};

/** The API key with its new secret. */
export type RotatedApiKey = CreatedApiKey;

export type ApiKey = {
  readonly id: string;
  readonly name: string;
  readonly repoId: string;
  readonly key: string;
  readonly aiType: AiType;
  /** RFC 3339, UTC, like the other times. */
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly expiresAt: string | null;
  /** Minute of its last use; absent if unknown, and with `asOf`. */
  readonly lastUsedAt?: string;
  readonly status: ApiKeyStatus;
  /** With `asOf`: position of the event that led to this state, and its id. */
  readonly position?: string;
  readonly eventId?: string;
};

/** Newest first. */
export type ApiKeyList = {
  readonly success: true;
  readonly apiKeys: readonly ApiKey[];
  /** Only with a limit: cursor of the next page, null on the last page. */
  readonly nextCursor?: string | null;
};

export type FoundApiKey = { readonly success: true; readonly apiKey: ApiKey };

export type Acknowledged = { readonly success: true; readonly message: string };

export type Done = Positioned & Acknowledged;

/** Repository and provider that the credential must be valid for, if any. */
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
      /** Position in the log as of which the credential is valid. */
      readonly position: string;
    }
  | { readonly success: true; readonly valid: false; readonly reason: InvalidReason }
) & {
  /** Maximum age of the service's knowledge (seconds); null if the service did not send it. */
  readonly staleness: number | null;
};

/**
 * Every call rejects with a KeyledgerClientError, with the reason of its signal, with the error of the token function,
 * or with a TypeError or RangeError for input that cannot be sent.
 */
export type Client = {
  createRepoAiApiKey(repoId: string, key: NewApiKey, options?: CreateOptions): Promise<CreatedApiKey>;

  getRepoAiApiKeys(repoId: string, options?: ListOptions): Promise<ApiKeyList>;

  getRepoAiApiKey(repoId: string, apikeyId: string, options?: GetOptions): Promise<FoundApiKey>;

  /** Renames an API key, or changes its expiry. */
  updateRepoAiApiKey(repoId: string, apikeyId: string, change: ApiKeyChange, options?: CallOptions): Promise<Done>;

  /**
   * Deletes permanently. A 404 after an attempt whose answer was lost may mean that this attempt deleted the API key,
   * or that no such key ever existed in this repository: the client does not guess, and rejects.
   */
  deleteRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;

  /** Issues a new secret for an API key. The previous one stays valid for the overlap (seconds). */
  rotateRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    rotation?: { readonly overlapSeconds?: number | undefined },
    options?: RotateOptions,
  ): Promise<RotatedApiKey>;

  /** Makes the API key invalid until it is resumed. */
  suspendRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    suspension?: { readonly reason?: string | undefined },
    options?: CallOptions,
  ): Promise<Done>;

  resumeRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;

  /** Every event of an API key, also after its deletion. */
  getRepoAiApiKeyHistory(repoId: string, apikeyId: string, options?: CallOptions): Promise<ApiKeyHistory>;

  /** Events of a repository, including audit accesses. */
  getRepoAiAudit(repoId: string, options?: AuditOptions): Promise<AuditPage>;

  /** Verifies a credential. An invalid credential is an answer, not an error. */
  verifyApiKey(credential: Credential & Requirement, options?: ReadOptions): Promise<VerificationOutcome>;

  /**
   * Revokes the API key of a leaked credential, for anyone who found it. The client neither requests nor sends its
   * token, and the answer does not disclose whether the credential was valid.
   */
  revokeLeakedApiKey(credential: Credential, options?: CallOptions): Promise<Acknowledged>;

  /**
   * Every event of the caller's repositories, without end, for the loop of a subscriber. It connects on the first
   * demand, reconnects by itself as often and as long as necessary, and delivers each event once and in order. It reads
   * only as fast as the loop consumes.
   *
   * No transient failure ends it: no network failure, no restart of the service, no expired token. It throws the
   * KeyledgerClientError of a permanent one: a refused token, a repository that the caller may not follow, a position
   * of another log, or of an event that a log lost when it was restored (OTHER_LOG). To resume in another process,
   * store the `position` of the last processed event.
   */
  events(options?: EventsOptions): AsyncIterableIterator<KeyledgerEvent>;
};
