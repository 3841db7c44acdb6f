/** Who looked: one event before each answer of the audit tools, in a stream of its own. */

export const AUDIT_ACCESS_CATEGORY = 'auditAccess-';

export const auditAccessStream = (accessId: string): string => AUDIT_ACCESS_CATEGORY + accessId;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const isAuditAccessStream = (stream: string): boolean =>
  stream.startsWith(AUDIT_ACCESS_CATEGORY) && UUID.test(stream.slice(AUDIT_ACCESS_CATEGORY.length));

export const AUDIT_ACCESS_KINDS = [
  'history',
  'audit',
  'as-of',
  'could-use',
  'export',
  'system-events',
  'repeated-secret',
] as const;
export type AuditAccessKind = (typeof AUDIT_ACCESS_KINDS)[number];

export type AuditAccessed = {
  readonly type: 'AuditAccessed';
  readonly data: {
    readonly access: AuditAccessKind;
    /** Null: not one repository, or not one key. */
    readonly repoId: string | null;
    readonly apiKeyId: string | null;
    /** What else was asked for: the moment, the filters. */
    readonly query: Readonly<Record<string, string | number>>;
    /** The caller's network address, or `command line on <host>`. */
    readonly from: string;
    /** Has a token proved who the actor is? The command line only says so. */
    readonly verified: boolean;
  };
};
