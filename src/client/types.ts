export type AiType = 'OPENAI' | 'GOOGLE' | 'ANTHROPIC' | 'AWS' | 'OTHER';

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

export type ListOptions = CallOptions & {
  /** The `position` of a change that the list must hold. */
  readonly minPosition?: string | undefined;
};

/** Where the change is in the log, for `minPosition`; null if the service did not say. */
export type Positioned = { readonly position: string | null };

export type CreatedApiKey = Positioned & {
  readonly success: true;
  readonly id: string;
  /** Access key, FB_AI_… */
  readonly key: string;
  /** secret_…; it is never shown again. */
  readonly secret: string;
};

export type ApiKey = {
  readonly id: string;
  readonly name: string;
  readonly repoId: string;
  readonly key: string;
  readonly aiType: AiType;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly status: 'active' | 'deleted' | 'unavailable';
};

/** Newest first. */
export type ApiKeyList = { readonly success: true; readonly apiKeys: readonly ApiKey[] };

export type Done = Positioned & { readonly success: true; readonly message: string };

/**
 * Every call rejects with a KeyledgerClientError, with the reason of its signal, with what the token
 * function threw, or with a TypeError for what cannot be sent at all.
 */
export type Client = {
  createRepoAiApiKey(
    repoId: string,
    key: { readonly name: string; readonly aiType: AiType },
    options?: CreateOptions,
  ): Promise<CreatedApiKey>;

  getRepoAiApiKeys(repoId: string, options?: ListOptions): Promise<ApiKeyList>;

  /** Renames; without a name nothing changes. */
  updateRepoAiApiKey(
    repoId: string,
    apikeyId: string,
    change: { readonly name?: string | undefined },
    options?: CallOptions,
  ): Promise<Done>;

  /**
   * Deletes for good. A 404 after a try whose answer was lost may mean that this try deleted it, or
   * that there never was such an API key in this repository: the client does not guess, and rejects.
   */
  deleteRepoAiApiKey(repoId: string, apikeyId: string, options?: CallOptions): Promise<Done>;
};
