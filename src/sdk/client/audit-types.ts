/** An event of an API key, or of who looked at what. */
export type AuditEvent = {
  readonly id: string;
  readonly type: string;
  /** RFC 3339, UTC. */
  readonly at: string;
  /** null if the service cannot read the event. */
  readonly actor: { readonly issuer: string; readonly subject: string } | null;
  readonly requestId: string | null;
  readonly apiKeyId: string | null;
  /** Of an event of a webhook. */
  readonly webhookId?: string;
  readonly revision: number;
  readonly position: string;
  /** What it changed, from which value to which. */
  readonly changes: Readonly<Record<string, { readonly from: AuditValue; readonly to: AuditValue }>>;
  /** Of a suspension or a deletion. */
  readonly reason?: string | null;
  /** Why the service cannot read the event. */
  readonly unreadable?: string;
  /** Of an `AuditAccessed`: what was looked at. */
  readonly accessed?: {
    readonly access: string;
    readonly query: Readonly<Record<string, string | number>>;
    readonly from: string;
    readonly verified: boolean;
  };
};
type AuditValue = string | number | null;

/** Oldest first. */
export type ApiKeyHistory = { readonly success: true; readonly events: readonly AuditEvent[] };

/** Newest first. */
export type AuditPage = ApiKeyHistory & {
  /** Where the next page begins, null on the last page. */
  readonly nextCursor: string | null;
};
