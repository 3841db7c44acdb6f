/**
 * An access to the audit trail: one event in its own stream, recorded before each answer of an audit query and before
 * each repeated secret.
 */

export const AUDIT_ACCESS_CATEGORY = 'auditAccess-';

export const auditAccessStream = (accessId: string): string => AUDIT_ACCESS_CATEGORY + accessId;

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
    /** Null unless the access concerns exactly one repository; the same for apiKeyId. */
    readonly repoId: string | null;
    readonly apiKeyId: string | null;
    /** Other parameters of the request: point in time, filters. */
    readonly query: Readonly<Record<string, string | number>>;
    /** The caller's network address, or `command line on <host>`. */
    readonly from: string;
    /** True if a token proves the actor; the command line only claims one. */
    readonly verified: boolean;
  };
};
