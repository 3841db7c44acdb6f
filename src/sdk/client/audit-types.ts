/** Event of an API key or a webhook, or a record of an audit access. */
export type AuditEvent = {
  readonly id: string;
  readonly type: string;
  /** RFC 3339, UTC. */
  readonly at: string;
  /** null if the service cannot read the event. */
  readonly actor: { readonly issuer: string; readonly subject: string } | null;
  readonly requestId: string | null;
  readonly apiKeyId: string | null;
  /** For an event of a webhook. */
  readonly webhookId?: string;
  readonly revision: number;
  readonly position: string;
  /** Changed fields, each with its old and its new value. */
  readonly changes: Readonly<Record<string, { readonly from: AuditValue; readonly to: AuditValue }>>;
  /** For a suspension or a deletion. */
  readonly reason?: string | null;
  /** Reason why the service cannot read the event. */
  readonly unreadable?: string;
  /** For `AuditAccessed`: the query, and where it came from. */
  readonly accessed?: {
    readonly access: string;
    readonly query: Readonly<Record<string, string | number>>;
    readonly from: string;
    readonly verified: boolean;
  };
};
type AuditValue = string | number | null;

/** History of an API key, oldest event first. */
export type ApiKeyHistory = { readonly success: true; readonly events: readonly AuditEvent[] };

/** Page of the audit, newest event first. */
export type AuditPage = ApiKeyHistory & {
  /** Cursor of the next page, null on the last page. */
  readonly nextCursor: string | null;
};
